"""Several runs side by side: their numbers and what differs between them, on the terminal and on the page."""

from pathlib import Path

import pytest

from cai.cli import run
from cai.errors import CaiError
from cai.report.side_by_side import differences, run_names, side_by_side
from cai.runs import runs_in
from tests.reports import made, record, share
from tests.test_page import facts_of, rows_of

HEADLINE = ("harm", "help", "refusals")


def written(folder: Path, harm: float, temperature: float) -> Path:
    first = made(folder, "responses", [record("a", "1")], temperature=temperature)
    made(folder, "revisions", [record("a", "1", "c", "2")], kind="revise", inputs=[first])
    numbers = [share("m", name, value) for name, value in zip(HEADLINE, (harm, 0.8, 0.1), strict=True)]
    made(folder, "table", [], kind="organism", numbers=numbers, headline=HEADLINE)
    return folder


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    return [written(tmp_path / "one", 0.9, 0.7), written(tmp_path / "two", 0.2, 1.0)]


def test_a_step_differs_by_its_own_keys_and_not_by_what_it_reads(two: list[Path]) -> None:
    found = differences(*map(runs_in, two))
    assert found == [("responses", "other settings (stage temperature: 0.7 -> 1.0)")]
    (two[1] / "revisions.json").unlink()
    made(two[1], "extra", [record("b", "1")])
    assert differences(*map(runs_in, two))[1:] == [
        ("revisions", "only in the first run"),
        ("extra", "not in the first run"),
    ]


def test_runs_are_called_by_their_folders_or_by_their_paths(tmp_path: Path) -> None:
    assert run_names([tmp_path / "a", tmp_path / "b"]) == ["a", "b"]
    assert run_names([tmp_path / "1/a", tmp_path / "2/a"]) == [str(tmp_path / "1/a"), str(tmp_path / "2/a")]
    with pytest.raises(CaiError) as error:
        run_names([tmp_path / "a", tmp_path / "b" / ".." / "a"])
    assert str(error.value) == f"'{tmp_path}/b/../a' is given twice; give each run once"


def test_the_tables_of_an_eval_stand_together(two: list[Path]) -> None:
    found = side_by_side(two)
    [shared] = found.shared
    assert (shared.name, list(shared.tables)) == ("table", ["one", "two"])


def test_the_command_compares(two: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", *map(str, two)]) == 0
    words = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "one m 90.0% [80.0, 100.0] n=100 80.0% [70.0, 90.0] n=100 10.0% [0.0, 20.0] n=100" in words
    assert "two m 20.0% [10.0, 30.0] n=100 80.0% [70.0, 90.0] n=100 10.0% [0.0, 20.0] n=100" in words
    assert "two, responses: other settings (stage temperature: 0.7 -> 1.0)" in words
    assert words[-1] == f"{two[0]}/comparison.html: open it in a browser (2 rows)"
    text = (two[0] / "comparison.html").read_text()
    titles = [section["title"] for section in facts_of(text)["sections"]]
    assert titles == ["Side by side", "What differs", "one", "two"]
    assert [row["step"] for row in rows_of(text)] == ["one: revisions", "two: revisions"]
    frontier = facts_of(text)["sections"][0]["blocks"][1]["chart"]
    assert [(series["name"], series["points"][0]["y"]) for series in frontier["series"]] == [
        ("one", 0.9),
        ("two", 0.2),
    ]
