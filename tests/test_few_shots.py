"""Demonstrations: their chat form, and every error's text."""

import json
from pathlib import Path

import pytest

from cai.errors import CaiError
from cai.few_shots import JudgeShots, ReviewShots
from cai.frames import default_judge, default_review
from cai.records import assistant, user

REVIEW = {
    "prompt": "P",
    "response": "R",
    "principle": {"critique": "C?", "revision": "V!"},
    "critique": "C",
    "revision": "N",
}
JUDGE = {"prompt": "P", "a": "X", "b": "Y", "preference": "Choose.", "reasoning": "Because.", "answer": "B"}


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_critique_demonstration_is_a_whole_trace(tmp_path: Path) -> None:
    shots = ReviewShots.from_toml(str(write(tmp_path / "s.jsonl", REVIEW, REVIEW)), "here")
    request = "Critique request: C?\nIf nothing is wrong, end with: Nothing to change."
    revision = [user("Revision request: V!\nWrite only the new answer."), assistant("N")]
    trace = [user("P"), assistant("R"), user(request), assistant("C"), *revision]
    assert list(shots.messages(default_review(), critique=True)) == trace * 2
    direct = [user("P"), assistant("R"), *revision]
    assert list(shots.messages(default_review(), critique=False)) == direct * 2


def test_a_judge_demonstration_ends_where_the_verdict_is_read(tmp_path: Path) -> None:
    shots = JudgeShots.from_toml(str(write(tmp_path / "s.jsonl", JUDGE)), "here")
    frame = default_judge()
    question = frame.question((user("P"),), "X", "Y", "Choose.", frame.reason)
    reasoned = [user(question), assistant("Because.\nThe better answer is B")]
    assert list(shots.messages(frame, reasoned=True)) == reasoned
    question = frame.question((user("P"),), "X", "Y", "Choose.", frame.choose)
    at_once = [user(question), assistant("The better answer is B")]
    assert list(shots.messages(frame, reasoned=False)) == at_once


def test_the_fingerprint_is_the_content_s(tmp_path: Path) -> None:
    one = ReviewShots.from_toml(str(write(tmp_path / "a.jsonl", REVIEW)), "here")
    same = ReviewShots.from_toml(str(write(tmp_path / "b.jsonl", REVIEW)), "here")
    other = ReviewShots.from_toml(str(write(tmp_path / "c.jsonl", {**REVIEW, "critique": "D"})), "here")
    assert one.fingerprint == same.fingerprint != other.fingerprint


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "s.jsonl: there is no demonstration in it; leave few_shots out instead"),
        (
            "no",
            "s.jsonl:1: this is no JSON: Expecting value; write one object a line",
        ),
        ("[]", "s.jsonl:1: this is no JSON object; write one object a line"),
        (
            json.dumps({**REVIEW, "note": "x"}),
            "s.jsonl:1: unknown key 'note'; known: critique, principle, prompt, response, revision",
        ),
        (
            json.dumps(REVIEW) + "\n" + json.dumps({key: REVIEW[key] for key in REVIEW if key != "critique"}),
            "s.jsonl:2: 'critique' is missing; add critique = ...",
        ),
        (
            json.dumps({**REVIEW, "principle": {"critique": "C?"}}),
            "s.jsonl:1 principle: 'revision' is missing; add revision = ...",
        ),
    ],
)
def test_a_bad_demonstration_is_named(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s.jsonl").write_text(text)
    with pytest.raises(CaiError) as raised:
        ReviewShots.from_toml("s.jsonl", "here")
    assert str(raised.value) == message


def test_a_verdict_is_a_or_b(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("s.jsonl"), {**JUDGE, "answer": "C"})
    with pytest.raises(CaiError) as raised:
        JudgeShots.from_toml("s.jsonl", "here")
    assert str(raised.value) == "s.jsonl:1: 'answer' is 'C'; choose one of 'A', 'B'"
    with pytest.raises(CaiError, match=r"^here: this is 2; write the path of a file of demonstrations$"):
        JudgeShots.from_toml(2, "here")
