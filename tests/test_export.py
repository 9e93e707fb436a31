"""Rows for other libraries, and what other libraries make of the rows of ours."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from cai.cli import run
from cai.export import sft, trl
from cai.records import Candidate, Comparison, Record, Turn, to_row, user

PROMPT = (user("How do I bake bread?"),)


def comparison(texts: Sequence[str], probabilities: Sequence[float]) -> Comparison:
    return Comparison(
        id="".join(texts),
        prompt_id="p",
        prompt=PROMPT,
        candidates=tuple(Candidate(text=text) for text in texts),
        annotations=(),
        probabilities=tuple(probabilities),
    )


def record(*texts: str, finish: str = "stop") -> Record:
    kinds = ("response", "critique", "revision")
    turns = tuple(Turn(kind=kind, text=text, finish=finish) for kind, text in zip(kinds, texts, strict=False))
    return Record(id="r", prompt_id="p", prompt=PROMPT, turns=turns)


def test_preferences_name_the_better_answer_and_how_sure_it_is() -> None:
    [row] = trl([comparison(["a", "b"], [0.2, 0.8])])
    assert row == {
        "prompt": [{"role": "user", "content": "How do I bake bread?"}],
        "chosen": [{"role": "assistant", "content": "b"}],
        "rejected": [{"role": "assistant", "content": "a"}],
        "probability": 0.8,
    }


def test_of_more_than_two_the_best_meets_the_worst() -> None:
    [row] = trl([comparison(["a", "b", "c"], [0.3, 0.6, 0.1])])
    assert isinstance(row, dict)
    assert (row["chosen"][0]["content"], row["rejected"][0]["content"]) == ("b", "c")
    assert row["probability"] == pytest.approx(6 / 7)


def test_ties_and_equal_sides_make_no_row_but_a_reason() -> None:
    assert list(trl([comparison(["a", "b"], [0.5, 0.5]), comparison(["a", "a"], [0.9, 0.1])])) == [
        "tie",
        "equal sides",
    ]


def test_conversations_end_with_the_newest_answer() -> None:
    [row] = sft([record("first", "bad", "second")])
    assert row == {"messages": [*PROMPT, {"role": "assistant", "content": "second"}]}
    assert list(sft([record()])) == ["no answer"]
    assert list(sft([record("cut", finish="length")])) == ["truncated answer"]


def test_the_command_writes_rows_and_says_what_it_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [comparison(["a", "b"], [0.2, 0.8]), comparison(["c", "d"], [0.5, 0.5])]
    source, out = tmp_path / "comparisons.jsonl", tmp_path / "out" / "trl.jsonl"
    source.write_text("".join(json.dumps(to_row(row)) + "\n" for row in rows))
    assert run(["export", str(source), "--format", "trl", "-o", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}: 1 row, 1 left out (1 tie)\n"
    assert [path.name for path in out.parent.iterdir()] == ["trl.jsonl"]
    assert json.loads(out.read_text())["chosen"] == [{"role": "assistant", "content": "b"}]
    assert run(["export", str(source), "--format", "trl", "-o", str(out)]) == 2
    assert capsys.readouterr().err == f"error: {out}: there is a file here already; choose another name\n"


def test_nothing_is_written_where_nothing_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = tmp_path / "comparisons.jsonl", tmp_path / "trl.jsonl"
    source.write_text(json.dumps(to_row(comparison(["c", "d"], [0.5, 0.5]))) + "\n")
    assert run(["export", str(source), "--format", "trl", "-o", str(out)]) == 1
    assert capsys.readouterr().err == (
        f"error: {out}: nothing to write: every row was left out (1 tie); give a file with other rows\n"
    )
    assert list(tmp_path.iterdir()) == [source]


def test_half_a_surrogate_pair_is_exported_as_an_escape(tmp_path: Path) -> None:
    source, out = tmp_path / "records.jsonl", tmp_path / "sft.jsonl"
    source.write_text(json.dumps(to_row(record("half \ud800"))) + "\n")
    assert run(["export", str(source), "--format", "sft", "-o", str(out)]) == 0
    assert json.loads(out.read_text())["messages"][-1]["content"] == "half \ud800"
