"""The page in a real browser: nothing that a model wrote runs, and everything is within reach of the keys."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cai.report.page import write_page
from tests import browser, hostile
from tests.browser import Opened
from tests.reports import compared, made, record, rejected, share

pytest.importorskip("playwright", reason='playwright is not installed (pip install "cai[browser]")')
pytestmark = [
    pytest.mark.browser,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(browser.CHROMIUM is None, reason="there is no Chromium"),
]

HEADLINE = ("harm", "help", "refusals")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser.chromium() as running:
        yield running


@pytest.fixture(scope="module")
def hostile_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in which every text that a model or a user can write is one of the corpus."""
    folder = tmp_path_factory.mktemp("hostile") / "<img src=x onerror=window.owned=1>"
    rows, pairs, rejects = [], [], []
    for at, text in enumerate(hostile.TEXTS):
        asked = f"{at} {text}"
        rows.append(record(asked, text, text, f"{text} again", model=text[:80] or "m", category=text[:80]))
        pairs.append(compared(asked, text, f"other {text}", 0.7, **{f"key {text[:80]}": text}))
        pairs[-1]["annotations"][0].update(note=text, annotator=text[:80], principle=text[:80])
        rejects.append(rejected(record(f"bad {asked}"), text[:80] or "empty", raw=text, detail=text))
    first = made(folder, "revisions", rows, kind=hostile.SCRIPT, rejects=rejects, setting=list(hostile.TEXTS))
    made(folder, "comparisons", pairs, kind="compare")
    numbers = [
        share(text[:80], name, 0.5, group)
        for text in hostile.TEXTS
        for name in HEADLINE
        for group in ("", text[:80])
    ]
    verdicts = [{"record": row["id"], "of": row["turns"][0]["model"], "why": hostile.SCRIPT} for row in rows]
    made(folder, "table", verdicts, inputs=[first], headline=HEADLINE, numbers=numbers)
    (folder / "recipe.toml").write_text(
        f"# {hostile.SCRIPT}\n"
        + "".join(f'[[steps]]\nname = "{name}"\n' for name in ("revisions", "comparisons", "table"))
    )
    return write_page([folder], folder / "report.html", rows=1000).path


def test_nothing_that_a_model_wrote_runs(chromium: Any, hostile_page: Path) -> None:
    with browser.opened(chromium, hostile_page) as page:
        assert page.text("#found") == f"{3 * len(hostile.TEXTS)} of {3 * len(hostile.TEXTS)} rows"
        page.run("document.querySelectorAll('details').forEach((one) => (one.open = true))")
        for _ in range(3 * len(hostile.TEXTS)):
            page.page.keyboard.press("j")
            assert (
                page.count("main :is(script, img, iframe, svg, style, link, base, meta, object, embed)") == 0
            )
            assert page.run("[...document.links].every((link) => link.getAttribute('href').startsWith('#'))")
        assert page.run("window.owned") is None
        assert page.faults == []


def test_texts_are_shown_as_they_were_written(chromium: Any, hostile_page: Path) -> None:
    with browser.opened(chromium, hostile_page) as page:
        page.page.fill("#search", '"</script><script>window.owned = 1</script> again"')
        assert page.text("#found").startswith("1 of ")
        assert page.text(".turn.response .prose") == "</script><script>window.owned = 1</script>"
        page.page.fill("#search", '"right \\u202e to"')
        assert "right \\u202e to left \\u2066 isolate" in page.text(".turn.response .prose")
        assert page.faults == []


@pytest.fixture(scope="module")
def plain_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty records, of which the fortieth was revised, comparisons, a training and an eval."""
    folder = tmp_path_factory.mktemp("plain") / "run"
    rows = [
        record(f"request {at}", f"answer {at}", category="bread" if at % 2 else "wine") for at in range(60)
    ]
    rows[40] = record("request 40", "one two three", "the second is wrong", "one four three", category="wine")
    first = made(folder, "revisions", rows)
    made(folder, "comparisons", [compared("a", "x", "y", 0.5, agree=False)], kind="compare")
    numbers = [
        share(of, name, 0.5, group)
        for of in ("start", "sl-cai")
        for name in HEADLINE
        for group in ("", "bread", "wine")
    ]
    verdict = {"record": rows[3]["id"], "of": "m", "harmful": True}
    made(folder, "table", [verdict], inputs=[first], headline=HEADLINE, numbers=numbers)
    return write_page([folder], folder / "report.html", rows=1000).path


@pytest.fixture
def plain(chromium: Any, plain_page: Path) -> Iterator[Opened]:
    with browser.opened(chromium, plain_page) as page:
        yield page
        assert page.faults == []


def test_rows_are_searched_and_filtered(plain: Opened) -> None:
    plain.page.fill("#search", '"answer 17"')
    assert plain.text("#found") == "1 of 61 rows"
    plain.page.fill("#search", "harmful:true")
    assert plain.text(".turn.user .prose") == "request 3"
    plain.page.fill("#search", "nowhere")
    assert (plain.text("#found"), plain.text("#detail")) == ("0 of 61 rows", "No row is like that.")
    plain.page.fill("#search", "")
    plain.page.select_option("[data-facet=category]", "bread")
    assert plain.text("#found") == "30 of 61 rows"
    plain.page.select_option("[data-facet=category]", "")
    plain.page.select_option("[data-facet=status]", "the orders disagree")
    assert plain.text("#found") == "1 of 61 rows"
    assert plain.count(".rivals .answer") == 2


def test_the_keys_reach_everything(plain: Opened) -> None:
    keys = plain.page.keyboard
    keys.press("/")
    assert plain.run("document.activeElement.id") == "search"
    keys.type('"request 4')
    assert plain.text("#found") == "11 of 61 rows"
    keys.press("Escape")
    assert plain.text("#found") == "61 of 61 rows"
    keys.press("Escape")
    assert plain.run("document.activeElement.className") == "list"
    # The row that the search left open is still open.
    assert plain.text(".option[aria-selected=true] .line:first-child") == "request 4"
    keys.press("j")
    keys.press("ArrowDown")
    assert plain.text(".turn.user .prose") == "request 6"
    keys.press("k")
    assert plain.run("document.querySelector('.list').getAttribute('aria-activedescendant')") == "option-5"
    keys.press("End")
    assert plain.run("document.querySelector('[aria-selected=true]').getAttribute('aria-posinset')") == "61"


def test_a_long_list_is_in_the_document_only_where_it_is_in_sight(plain: Opened) -> None:
    assert plain.count(".option") < 40
    plain.run("document.querySelector('.list').scrollTo(0, 1e6)")
    plain.page.wait_for_selector("#option-60")


def test_the_open_row_stays_in_sight_when_the_search_is_cleared(plain: Opened) -> None:
    plain.page.fill("#search", '"request 57"')
    plain.page.fill("#search", "")
    assert plain.page.locator(".option[aria-selected=true]").is_visible()
    assert plain.text(".turn.user .prose") == "request 57"


def test_a_revision_shows_what_it_changed(plain: Opened) -> None:
    plain.page.fill("#search", '"the second is wrong"')
    assert (plain.text("#detail del"), plain.text("#detail ins")) == ("two", "four")
    plain.page.click("#detail button")
    assert not plain.page.is_visible("#detail del")
    assert plain.page.is_visible("text=one four three")


@pytest.mark.parametrize(
    ("before", "after", "pieces"),
    [
        ("", "", []),
        ("a b", "a b", [[" ", "a b"]]),
        ("", "new", [["+", "new"]]),
        ("one two three", "one 2 three", [[" ", "one "], ["-", "two"], ["+", "2"], [" ", " three"]]),
        ("a, b, c.", "x, y, c.", [["-", "a, b"], ["+", "x, y"], [" ", ", c."]]),
        ("caf\u00e9 na\u00efve", "caf\u00e9 nu", [[" ", "caf\u00e9 "], ["-", "na\u00efve"], ["+", "nu"]]),
    ],
)
def test_differences_are_of_words(plain: Opened, before: str, after: str, pieces: list[list[str]]) -> None:
    assert plain.page.evaluate("([before, after]) => difference(before, after)", [before, after]) == pieces


def test_texts_too_long_to_compare_are_not_compared(plain: Opened) -> None:
    assert plain.page.evaluate("difference('a '.repeat(3000), 'b '.repeat(3000))") is None


def test_a_difference_holds_both_texts(plain: Opened) -> None:
    script = """() => {
        const words = ["a", "b", " ", ",", "c d", "\\n"];
        const drawn = (most) => Math.floor(Math.random() * most);
        const text = () => Array.from({ length: drawn(12) }, () => words[drawn(words.length)]).join("");
        for (let round = 0; round < 2000; round += 1) {
            const [before, after] = [text(), text()];
            const pieces = difference(before, after);
            const side = (out) => pieces.flatMap(([kind, part]) => (kind === out ? [] : [part])).join("");
            if (side("+") !== before || side("-") !== after) return [before, after, pieces];
        }
        return null;
    }"""
    assert plain.page.evaluate(script) is None


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_and_every_chart_has_a_table(
    chromium: Any, plain_page: Path, width: int, scheme: str
) -> None:
    with browser.opened(chromium, plain_page, width=width, scheme=scheme) as page:
        assert page.run("document.documentElement.scrollWidth") <= width
        assert page.run("document.documentElement.dataset.theme") == scheme
        assert (
            page.count("figure.chart")
            == page.count("figure.chart canvas")
            == page.count("figure.chart details table")
            == 4
        )
        page.page.click("#theme")
        assert page.run("document.documentElement.dataset.theme") != scheme
        assert page.faults == []


def test_the_page_prints_in_light_colours_without_its_controls(chromium: Any, plain_page: Path) -> None:
    with browser.opened(chromium, plain_page, scheme="dark") as page:
        page.page.emulate_media(media="print")
        assert not page.page.is_visible(".list") and page.page.is_visible("#detail")
        assert page.page.pdf()[:4] == b"%PDF"
        assert page.run("document.documentElement.dataset.theme") == "dark"
        assert page.faults == []
