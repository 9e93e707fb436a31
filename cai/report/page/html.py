"""One HTML file of a page's parts: markup, styles, scripts and data, with nothing left to be fetched.

What models wrote is data: JSON in elements that no browser runs, with every "<" escaped, and put on the page
as text. A content security policy lets nothing run but the one script that is named by its digest.
"""

import base64
import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from html import escape
from math import isfinite
from pathlib import Path
from string import Template
from typing import Any

from cai.terminal import sanitise

STATIC = Path(__file__).parent / "static"
STYLES = ("uPlot.min.css", "page.css", "browser.css")
SCRIPTS = (
    "uPlot.iife.min.js",
    "dom.js",
    "grids.js",
    "marks.js",
    "plots.js",
    "charts.js",
    "diff.js",
    "rows.js",
    "list.js",
    "detail.js",
    "browser.js",
    "main.js",
)
# So many rows are unpacked together: few enough that the page answers while it unpacks.
CHUNK_ROWS = 500


def page(title: str, facts: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The text of the file, piece by piece. `facts` are drawn at once, `rows` unpacked when there is time."""
    style = "".join(_static(name) for name in STYLES)
    # uPlot's licence goes along with every copy of it.
    licence = f"/*\n{_static('uPlot.LICENSE')}*/\n"
    script = '"use strict";\n' + licence + "".join(_static(name) for name in SCRIPTS)
    chunks = [rows[start : start + CHUNK_ROWS] for start in range(0, len(rows), CHUNK_ROWS)]
    head, foot = _static("page.html").split("<!-- rows -->")
    yield Template(head).substitute(
        title=escape(sanitise(title)),
        policy=f"default-src 'none'; style-src {_allowed(style)}; script-src {_allowed(script)}; "
        "img-src data:; base-uri 'none'; form-action 'none'",
        style=style,
        facts=embedded(facts),
        script=script,
    )
    for chunk in chunks:
        yield f'<script type="text/plain" class="rows">{packed(chunk)}</script>\n'
    yield foot


def embedded(data: Any) -> str:
    """JSON that can stand in a script element: no text in it ends the element or begins a comment."""
    return _json(data).replace("<", "\\u003c")


def packed(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as JSON, compressed, in base64. The same rows are the same text."""
    return base64.b64encode(gzip.compress(_json(rows).encode(), 6, mtime=0)).decode("ascii")


def _json(data: Any) -> str:
    return json.dumps(visible(data), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def visible(data: Any) -> Any:
    """The same data with every control character in its texts spelled out, as on a terminal."""
    if isinstance(data, str):
        return sanitise(data)
    if isinstance(data, Mapping):
        return {sanitise(str(key)): visible(value) for key, value in data.items()}
    if isinstance(data, float) and not isfinite(data):
        return str(data)
    if isinstance(data, list | tuple):
        return [visible(item) for item in data]
    return data


def _allowed(code: str) -> str:
    """The source expression of a content security policy that lets this very text run (CSP level 3)."""
    return f"'sha256-{base64.b64encode(sha256(code.encode()).digest()).decode('ascii')}'"


def _static(name: str) -> str:
    return (STATIC / name).read_text(encoding="utf-8")
