"""Texts that a model might write to break out of a page, a script element, a policy or a reader's trust."""

SCRIPT = "<script>window.owned = 1</script>"

TEXTS = (
    SCRIPT,
    "</script><script>window.owned = 1</script>",
    "</SCRIPT ><img src=x onerror='window.owned = 1'>",
    "<!--<script>window.owned = 1",
    "]]></script><!-- --><svg onload=window.owned=1>",
    "<img src=x onerror=window.owned=1>",
    "<a href=\"javascript:window.owned=1\" onmouseover='window.owned=1'>click</a>",
    "<iframe srcdoc='<script>parent.owned=1</script>'></iframe>",
    "<style>*{display:none}</style><link rel=stylesheet href=https://example.org/x.css>",
    "<base href=https://example.org/><meta http-equiv=refresh content='0;url=https://example.org'>",
    "javascript:window.owned=1",
    "data:text/html,<script>window.owned=1</script>",
    '";window.owned=1;//',
    "'-window.owned=1-'",
    "\\u003cscript>window.owned=1\\u003c/script>",
    "${window.owned=1} `${window.owned=1}` {{constructor.constructor('owned=1')()}}",
    "&lt;script&gt;window.owned=1&lt;/script&gt; &#60;script&#62;",
    "line\u2028separator\u2029paragraph",
    "nul \x00 escape \x1b[2J bell \x07 delete \x7f c1 \x9b",
    "right \u202e to left \u2066 isolate \u2069",
    "lone \ud800 surrogate \udfff",
    "__proto__ constructor toString hasOwnProperty",
    "```\n</code></pre>\n```\n-->\n\n\n$facts $script <!-- rows -->",
    "x" * 200_000,
    "word " * 20_000,
    "",
)
