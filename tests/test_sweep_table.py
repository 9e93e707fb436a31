"""cai sweep: what its numbers come to over the seeds, and how they are printed."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sweeping import ROUNDS, go, recipe_folder

from cai.evals import Number
from cai.evals._intervals import wilson
from cai.evals._shares import share
from cai.sweep.table import _changes, _lines


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield from recipe_folder(tmp_path, monkeypatch)


def numbers(value: float, n: int, of: str = "m") -> dict[Any, Number]:
    hits = [True] * round(value * n) + [False] * (n - round(value * n))
    return {("table", of, "harm", ""): share("harm", of, hits)}


def test_values_over_seeds_have_both_intervals() -> None:
    [line] = _lines("a", [numbers(0.2, 10), numbers(0.4, 10), numbers(0.6, 10)])
    assert (line.values, line.n, line.mean) == ((0.2, 0.4, 0.6), (10, 10, 10), pytest.approx(0.4))
    # t(0.975, 2) = 4.30265, s = 0.2, k = 3.
    half = 4.302652729911275 * 0.2 / 3**0.5
    assert line.over_seeds == pytest.approx((0.4 - half, 0.4 + half), rel=1e-9)
    assert line.pooled == pytest.approx(wilson(12, 30), abs=1e-12)


def test_what_has_no_interval_has_none() -> None:
    [line] = _lines("a", [numbers(0.5, 10)])
    assert (line.mean, line.over_seeds, line.pooled) == (0.5, None, pytest.approx(wilson(5, 10)))
    length = Number(name="length", of="m", value=31.5, low=30.0, high=33.0, n=10)
    [line] = _lines("a", [{("t", "m", "length", ""): length}] * 2)
    assert (line.mean, line.over_seeds, line.pooled) == (31.5, (31.5, 31.5), None)
    nothing = share("harm", "m", [])
    [line] = _lines("a", [{("t", "m", "harm", ""): nothing}, {}])
    assert (line.values, line.n, line.mean, line.pooled) == ((None, None), (0, 0), None, None)


def test_a_share_over_prompts_reads_in_percent_though_it_is_not_pooled() -> None:
    clustered = share("harm", "m", [1, 1, 0, 0], prompts=["a", "a", "b", "b"])
    [line] = _lines("a", [{("t", "m", "harm", ""): clustered}])
    assert (line.pooled, line.share) == (None, True)
    [line] = _lines("a", [{("t", "m", "harm", ""): replace(clustered, unit="")}])
    assert not line.share


def test_a_change_is_taken_seed_by_seed() -> None:
    lines = {}
    for name, values in (("a", (0.2, 0.4, 0.6)), ("b", (0.3, 0.5, 0.7)), ("c", (0.2, 0.5, 0.5))):
        [line] = _lines(name, [numbers(value, 10) for value in values])
        lines[name, ("table", "m", "harm", "")] = line
    b, c = _changes(["a", "b", "c"], lines)
    assert (b.combination, b.against, b.mean) == ("b", "a", pytest.approx(0.1))
    # The seeds differ, the change does not.
    assert b.over_seeds == pytest.approx((0.1, 0.1)) and b.sure
    assert c.mean == pytest.approx(0.0) and not c.sure


def test_the_table_as_it_is_printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert go("--set", ROUNDS, "--each", quiet=False) == 0
    out = capsys.readouterr().out
    words = [" ".join(line.split()) for line in out.splitlines()]
    assert words[0] == "steps.revisions.rounds: texts"
    assert words[-2:] == [
        "runs/s/sweep.json: 2 runs of 8 steps in all, 6 of them made",
        "runs/s/sweep.html: the same as a page",
    ]
    page = Path("runs/s/sweep.html").read_text()
    assert "steps.revisions.rounds" in page and "rounds=1" in page and "default-src 'none'" in page
