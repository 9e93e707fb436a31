"""`cai constitution diff` and `coverage`: by hand, and on runs that the scripted engine made."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cai import manifest
from cai.cli import run
from cai.constitution import Constitution, Principle, load
from cai.constitution_diff import changes, marked, word_diff
from cai.coverage import Counts, coverage
from cai.encoding import encode
from cai.errors import CaiError
from cai.frames import default_review
from cai.records import Annotation, Candidate, Comparison, Record, Turn, digest, user
from cai.report.effects import effects

ONE = Principle(id="one", critique="Is it bad?", revision="Make it good.", preference="Choose the good one.")
TWO = replace(ONE, id="two", critique="Is it cruel?")


def constitution(*principles: Principle) -> Constitution:
    return Constitution(name="test", principles=principles)


def test_words_that_changed() -> None:
    words = word_diff("Is it bad in any way?", "Is it bad  or cruel in some way?")
    assert marked(words) == "Is it bad {+or cruel+} in [-any-] {+some+} way?"
    assert marked(word_diff("the same", "the same")) == "the same"
    assert marked(word_diff("", "new")) == "{+new+}" and marked(word_diff("old", "")) == "[-old-]"


def test_what_became_of_each_principle() -> None:
    renamed = replace(TWO, id="three", weight=2.0)
    edited = replace(ONE, critique="Is it very bad?", tags=("x",))
    added = replace(ONE, id="four", critique="Does it lie?")
    found = list(changes(constitution(ONE, TWO), constitution(added, edited, renamed)))
    assert [(one.id, one.what) for one in found] == [
        ("four", "added"),
        ("one", "reworded, tagged x"),
        ("three", "renamed, it was 'two', weight 1 -> 2"),
    ]
    [(name, words)] = found[1].wordings
    assert (name, marked(words)) == ("critique", "Is it {+very+} bad?")
    [gone] = changes(constitution(ONE, TWO), constitution(ONE))
    assert (gone.id, gone.what) == ("two", "taken out")
    [untagged] = changes(constitution(edited), constitution(replace(edited, tags=())))
    assert untagged.what == "no longer tagged x"
    assert list(changes(constitution(ONE, TWO), constitution(TWO, ONE))) == []


CLEAR = f"It is fine. {default_review().critique.clear}"


def record(name: str, *turns: tuple[str, str, str]) -> Record:
    made = tuple(Turn(kind=kind, principle=of, text=text) for kind, of, text in turns)  # type: ignore[arg-type]
    return Record(id=digest(name), prompt_id=digest(name), prompt=(user(name),), turns=made)


def comparison(name: str, principle: str, p: float, agree: bool) -> Comparison:
    note = Annotation(annotator="j", principle=principle, probabilities=(p, 1 - p), agree=agree)
    return Comparison(
        id=digest(name),
        prompt_id=digest(name),
        prompt=(user(name),),
        candidates=(Candidate(text="a"), Candidate(text="b")),
        annotations=(note,),
        probabilities=(p, 1 - p),
    )


def output(run: Path, name: str, kind: str, rows: list[Any], weights: dict[str, float], **stage: Any) -> None:
    principles = {id: digest(id) for id in weights}
    steered = {"kind": kind, "constitution": {"principles": principles, "weights": weights}, **stage}
    (run / f"{name}.jsonl").write_bytes(b"".join(encode(row) + b"\n" for row in rows))
    found = {"complete": True, "identity": {"stage": steered}, "started": name}
    (run / f"{name}.json").write_text(json.dumps(found))


def test_what_each_principle_did_by_hand(tmp_path: Path) -> None:
    fault = record("x", ("response", "", "bad"), ("critique", "one", "It is bad."))
    clear = record("y", ("response", "", "good"), ("critique", "two", CLEAR))
    weights = {"one": 3.0, "two": 1.0, "idle": 4.0}
    output(tmp_path, "1-critiques", "critique", [fault, clear], weights)
    better = fault.then(Turn(kind="revision", text="better", principle="one"))
    kept = clear.then(Turn(kind="revision", text="good ", principle="two", finish="kept"))
    direct = better.then(Turn(kind="revision", text="best", principle="two"))
    # The critiques are in this file again, and not counted again.
    output(tmp_path, "2-revisions", "revise", [direct, kept], weights)
    rows = [
        comparison("a", "one", 0.9, True),
        comparison("b", "one", 0.6, False),
        comparison("c", "two", 0.5, True),
    ]
    output(tmp_path, "3-comparisons", "compare", rows, weights)
    assert coverage(tmp_path, default_review()) == {
        # Three draws for rounds and three for verdicts, by weight 3 : 1 : 4.
        "one": Counts(
            rounds=1, critiques=1, found=1, revisions=1, changed=1, verdicts=2, decided=1, expected=2.25
        ),
        "two": Counts(rounds=2, critiques=1, revisions=2, changed=1, verdicts=1, expected=0.75),
        "idle": Counts(expected=3.0),
    }


def test_critiques_of_other_frames_are_refused(tmp_path: Path) -> None:
    output(
        tmp_path,
        "critiques",
        "critique",
        [record("x", ("critique", "one", "Bad."))],
        {"one": 1.0},
        frames="f",
    )
    with pytest.raises(CaiError) as raised:
        coverage(tmp_path, default_review())
    assert str(raised.value) == (
        f"--frames: {tmp_path / 'critiques.jsonl'} was made with other frames; "
        "give the file of frames that it was made with"
    )


def test_a_run_without_a_constitution_has_no_coverage(tmp_path: Path) -> None:
    with pytest.raises(CaiError) as raised:
        coverage(tmp_path, default_review())
    assert str(raised.value) == (
        f"{tmp_path}: nothing here was made under a constitution; "
        "give a run with critiques, revisions or comparisons"
    )


RECIPE = """
constitution = "constitution.toml"
[engines.start]
type = "scripted"
[[steps]]
name = "responses"
stage = "generate"
engine = "start"
samples = 2
from = "prompts.jsonl"
[[steps]]
name = "revisions"
stage = "revise"
engine = "start"
rounds = 2
[[steps]]
name = "comparisons"
stage = "compare"
engine = "start"
from = "revisions"
judge = {type = "logprob", min_mass = 0.0}
"""


def written(*principles: Principle) -> str:
    tables = [
        f'[[principle]]\nid = "{one.id}"\ncritique = "{one.critique}"\nrevision = "{one.revision}"\n'
        f'preference = "{one.preference}"\nweight = {one.weight}\n'
        for one in principles
    ]
    return 'name = "mine"\n' + "".join(tables)


def test_the_tools_on_a_run_of_the_scripted_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("prompts.jsonl").write_text("".join(f'{{"prompt": "request {n}"}}\n' for n in range(40)))
    Path("recipe.toml").write_text(RECIPE)
    Path("constitution.toml").write_text(written(ONE, replace(TWO, weight=3.0)))
    assert run(["run", "recipe.toml", "-o", "x", "--quiet"]) == 0
    counts = coverage(Path("x"), default_review())
    rounds = sum(of.rounds for of in counts.values())
    # 80 answers twice, 40 comparisons.
    assert (rounds, sum(of.verdicts for of in counts.values())) == (160, 40)
    assert all(of.critiques == of.found == of.revisions == of.changed for of in counts.values())
    assert [of.expected for of in counts.values()] == [50.0, 150.0]
    assert run(["constitution", "coverage", "x"]) == 0
    words = [line.split() for line in capsys.readouterr().out.splitlines()]
    [line] = [line for line in words if line[:1] == ["two"]]
    drawn = counts["two"].draws
    assert line[1] == f"{drawn / 200:.1%}" and line[4:6] == ["n=200", "75.0%"]
    Path("wider.toml").write_text(
        written(ONE, replace(TWO, weight=3.0), replace(ONE, id="new", critique="Lies?"))
    )
    assert run(["constitution", "check", "wider.toml", "--run", "x"]) == 0
    out = capsys.readouterr().out
    assert "[principle 'new']: is in no constitution that the run was made under in x\n" in out
    assert run(["constitution", "diff", "constitution.toml", "wider.toml"]) == 0
    assert capsys.readouterr().out.splitlines()[:2] == ["new: added", "  critique:   {+Lies?+}"]
    assert run(["constitution", "diff", "wider.toml", "wider.toml"]) == 0
    assert capsys.readouterr().out == "both say the same\n"
    assert len(load("wider.toml").principles) == 3


def table(run: Path, name: str, numbers: list[tuple[str, str, str, float, float, float]]) -> None:
    run.mkdir(exist_ok=True)
    rows = [
        {"of": of, "name": measure, "group": group, "value": value, "low": low, "high": high, "n": 100}
        for of, measure, group, value, low, high in numbers
    ]
    begun = {**manifest.begun({"eval": {"kind": "organism"}}), "complete": True}
    (run / f"{name}.json").write_text(json.dumps({**begun, "numbers": rows, "headline": ["harm", "help"]}))
    (run / f"{name}.jsonl").write_text("")


@pytest.fixture
def two_runs(tmp_path: Path) -> tuple[Path, Path]:
    old, new = tmp_path / "old", tmp_path / "new"
    table(
        old,
        "table",
        [
            ("runs/old/sl", "harm", "", 0.5, 0.4, 0.6),
            ("runs/old/sl", "help", "", 0.9, 0.8, 0.95),
            ("runs/old/sl", "harm", "theft", 0.9, 0.85, 0.95),
            ("runs/old/sl", "tokens", "", 20.0, 18.0, 22.0),
            ("runs/old/gone", "harm", "", 0.5, 0.4, 0.6),
        ],
    )
    table(
        new,
        "table",
        [
            ("runs/new/sl", "harm", "", 0.1, 0.05, 0.2),
            ("runs/new/sl", "help", "", 0.88, 0.8, 0.95),
            ("runs/new/sl", "harm", "theft", 0.1, 0.05, 0.15),
            ("runs/new/sl", "tokens", "", 30.0, 28.0, 32.0),
        ],
    )
    return old, new


def test_the_interval_of_a_difference_by_hand(two_runs: tuple[Path, Path]) -> None:
    found, _ = effects(*two_runs)
    assert [(one.one.name, one.one.group, one.clear) for one in found] == [
        ("harm", "", True),
        ("help", "", False),
        ("harm", "theft", True),
        ("tokens", "", True),
    ]
    # -0.4, less sqrt(0.05^2 + 0.1^2), and more sqrt(0.1^2 + 0.1^2).
    assert found[0].difference == pytest.approx(-0.4)
    assert found[0].interval == pytest.approx((-0.4 - 0.0125**0.5, -0.4 + 0.02**0.5))


def test_what_came_of_a_change_is_printed(
    two_runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["constitution", "diff", "harmless", "harmless", "--runs", *map(str, two_runs)]
    assert run(command) == 0
    words = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    [harm] = [line for line in words if line.startswith("table sl harm")]
    assert harm == "table sl harm 50.0% [40.0, 60.0] 10.0% [5.0, 20.0] -40.0 points [-51.2, -25.9] *"
    assert not any("theft" in line for line in words)
    assert words[-1] == "3 of 4 numbers clearly differ (*); by chance alone it would be about 0"
    assert run([*command, "--groups"]) == 0
    assert any("theft" in line for line in capsys.readouterr().out.splitlines())
    assert run(["constitution", "diff", "harmless", "harmless", "--groups"]) == 2
    assert capsys.readouterr().err == "error: '--groups' has no use without --runs; leave it out\n"
