"""The HTML page: what stands in it, and that no text of a model is more than text."""

import base64
import gzip
import json
import os
import re
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cai.cli import run
from cai.report.page import html, write_page
from cai.report.summary import Prices
from cai.terminal import sanitise
from tests import hostile
from tests.reports import made, record, rejected, share


def facts_of(text: str) -> dict:
    """What a page says, as its own script would read it."""
    [found] = re.findall(r'<script type="application/json" id="facts">(.*?)</script>', text, re.DOTALL)
    return json.loads(found)


def rows_of(text: str) -> list[dict]:
    chunks = re.findall(r'<script type="text/plain" class="rows">(.*?)</script>', text)
    return [row for chunk in chunks for row in json.loads(gzip.decompress(base64.b64decode(chunk)))]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A run of two steps and an eval."""
    folder = tmp_path / "x"
    one, two = record("how?", "so", category="bread"), record("why?", "thus")
    first = made(folder, "responses", [one, two])
    grown = record("how?", "so", "bad", "well", category="bread")
    made(
        folder, "revisions", [grown], kind="revise", inputs=[first], rejects=[rejected(two, "empty")], items=2
    )
    numbers = [share("m", name, value) for name, value in (("harm", 0.2), ("help", 0.9), ("refusal", 0.1))]
    verdicts = [{"record": one["id"], "of": "m", "answer": "well", "harmful": False}]
    made(folder, "table", verdicts, inputs=[first], headline=("harm", "help", "refusal"), numbers=numbers)
    return folder


def test_a_page_is_whole_and_asks_for_nothing(small: Path) -> None:
    page = write_page([small], small / "report.html", rows=100)
    assert (page.rows, page.of) == (2, 2)
    text = page.path.read_text()
    facts = facts_of(text)
    assert [section["title"] for section in facts["sections"]] == [
        "Outcome",
        "From prompts to training",
        "Provenance",
    ]
    assert facts["rows"] == {"count": 2, "about": "All 2 rows."}
    assert [row["status"] for row in rows_of(text)] == [["answer changed"], ["rejected: empty"]]
    outside = text.replace(facts_text(text), "")
    assert not re.search(
        r"""(src|href)\s*=\s*["']?(https?:)?//|url\(|@import|fetch\(|XMLHttpRequest""", outside
    )


def facts_text(text: str) -> str:
    return re.findall(r'id="facts">(.*?)</script>', text, re.DOTALL)[0]


def test_only_the_page_s_own_script_may_run(small: Path) -> None:
    text = write_page([small], small / "report.html", rows=100).path.read_text()
    [policy] = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    [script] = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    [style] = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    script_hash, style_hash = (
        base64.b64encode(sha256(code.encode()).digest()).decode() for code in (script, style)
    )
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{style_hash}'; script-src 'sha256-{script_hash}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    assert not re.search(
        r"\beval\(|new Function|innerHTML|outerHTML|insertAdjacentHTML|document\.write", own_scripts()
    )


def own_scripts() -> str:
    return "".join((html.STATIC / name).read_text() for name in html.SCRIPTS if not name.startswith("uPlot"))


@given(st.text() | st.sampled_from(hostile.TEXTS))
def test_no_text_ends_the_element_that_holds_it(text: str) -> None:
    held = html.embedded([text, {text: text}])
    assert "<" not in held
    assert not set(held) & set("\x00\x1b\x7f\x9b\u2028\u2029\u202e\u2066\ud800")
    assert json.loads(held) == [sanitise(text), {sanitise(text): sanitise(text)}]
    held.encode()


def test_control_characters_are_spelled_out_in_rows() -> None:
    packed = html.packed([{"text": "a\x1b[2J\u202eb\n\tc", "n": 1, "p": float("inf")}])
    assert json.loads(gzip.decompress(base64.b64decode(packed))) == [
        {"text": "a\\x1b[2J\\u202eb\n\tc", "n": 1, "p": "inf"}
    ]
    assert packed == html.packed([{"text": "a\x1b[2J\u202eb\n\tc", "n": 1, "p": float("inf")}])


def test_rows_are_packed_in_chunks() -> None:
    rows = [{"id": str(at)} for at in range(html.CHUNK_ROWS + 1)]
    text = "".join(html.page("t", {}, rows))
    assert text.count('class="rows"') == 2
    assert rows_of(text) == rows


def test_prices_are_in_the_page(small: Path) -> None:
    prices = Prices(prompt=1e4, cached=1.0, generated=2e4)
    text = write_page([small], small / "report.html", rows=9, prices=prices).path.read_text()
    [costs] = [
        block["grid"]
        for section in facts_of(text)["sections"]
        for block in section["blocks"]
        if block.get("grid", {}).get("title") == "Time and tokens"
    ]
    assert costs["columns"][-1] == "price"
    assert [cell["text"] for cell in costs["rows"][-1]] == ["all", "6.0", "300", "", "150", "25", "6.00"]


def test_the_command_writes_the_page_into_the_run(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", str(small)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{small}/report.html: open it in a browser (2 rows)"
    assert run(["report", str(small), "--rows", "1", "-o", str(small.parent / "mine.html")]) == 0
    about = facts_of((small.parent / "mine.html").read_text())["rows"]["about"]
    assert re.fullmatch(
        r"[012] of 2 rows: those of prompts drawn by digest, so that what belongs to one prompt is here "
        r"together\. The tables count all rows\. cai report --rows N shows more\.",
        about,
    )
    (small / "report.html").unlink()
    assert run(["report", str(small), "--no-page"]) == 0
    assert not (small / "report.html").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--no-page", "--rows", "5"], "'--rows' has no use with --no-page; take one of them out"),
        (["--no-page", "-o", "a.html"], "'--output' has no use with --no-page; take one of them out"),
        (["RUN", "--groups"], "'--groups' is for one run; the page has every number of each"),
    ],
)
def test_options_without_an_effect_are_refused(
    small: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        run(["report", str(small), *(str(small) if option == "RUN" else option for option in options)]) == 2
    )
    assert capsys.readouterr().err == f"error: {message}\n"


def test_a_page_that_cannot_be_written_says_so(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = small / "nowhere" / "x.html"
    assert run(["report", str(small), "-o", str(place)]) == 1
    assert capsys.readouterr().err == (
        f"error: {place}: the page cannot be written (No such file or directory); "
        "give another place with --output, or --no-page\n"
    )
    assert "report.html" not in os.listdir(small)
