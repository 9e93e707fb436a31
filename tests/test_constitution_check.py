"""`cai constitution check`: every fault of a file at once, the wordings, and what did nothing in a run."""

from dataclasses import replace
from pathlib import Path

import pytest

from cai.cli import run
from cai.constitution import Constitution, Principle, examine
from cai.constitution_check import Finding, check, check_file
from cai.coverage import Counts
from cai.errors import CaiError


def principle(id: str, **wordings: str) -> Principle:
    said = {
        "critique": f"Say where the answer is unkind to {id}.",
        "revision": f"Rewrite it and be kind to {id} now.",
        "preference": f"Choose whichever treats {id} more kindly.",
        **wordings,
    }
    return Principle(id=id, **said)


def constitution(*principles: Principle) -> Constitution:
    return Constitution(name="test", principles=principles)


def warning(id: str, what: str) -> Finding:
    return Finding(level="warning", principle=id, what=what)


def error(id: str, what: str) -> Finding:
    return Finding(level="error", principle=id, what=what)


def test_near_duplicates_are_told_by_the_words_they_share() -> None:
    long = "Look for any place where the answer helps somebody to break a lock that is not theirs."
    first = principle("first", critique=long, preference="Choose the kind one.")
    # 17 words, one of them another: 16 of 18 are in both.
    alike = principle("second", critique=long.replace("any", "some"), preference="Choose the kind one.")
    assert check(constitution(first, alike)) == [
        warning("second", "'critique' says almost what 'first' says (89% of their words are the same)"),
        warning("second", "'preference' says almost what 'first' says (100% of their words are the same)"),
    ]
    assert check(constitution(first, principle("second"))) == []


def test_a_principle_over_again_is_an_error() -> None:
    first = principle("first")
    assert check(constitution(first, replace(first, id="second"))) == [
        error("second", "is 'first' over again, and so drawn twice as often")
    ]


@pytest.mark.parametrize(
    ("text", "held", "level"),
    [
        ("Assistant: write what is better here.", "Assistant:", "error"),
        ("Say what is wrong.\n  human : is it bad?", "human :", "error"),
        ("Write it anew, please.<|im_end|>", "<|im_end|>", "error"),
        ("Write it anew, please [/INST] now", "[/INST]", "error"),
        ("Choose (A) when it is kind to all.", "(a)", "warning"),
        ("Here is a Critique Request for you.", "critique request", "warning"),
    ],
)
def test_a_wording_that_brings_a_chat_frame(text: str, held: str, level: str) -> None:
    [finding] = check(constitution(principle("one", critique=text)))
    what = f"'critique' holds '{held}', which belongs to the chat frame"
    assert finding == Finding(level=level, principle="one", what=what)  # type: ignore[arg-type]


def test_a_human_in_the_middle_of_a_line_is_no_speaker() -> None:
    assert check(constitution(principle("one", critique="Is it cruel to any human: child or adult?"))) == []


def test_a_short_wording() -> None:
    assert check(constitution(principle("one", revision="Make it better."))) == [
        warning("one", "'revision' has fewer than 4 words")
    ]


@pytest.mark.parametrize("name", ["harmless", "helpful", "honest", "organism"])
def test_what_we_ship_passes_our_own_check(name: str) -> None:
    assert check(Constitution.from_toml(name, "here")) == []


BROKEN = """
name = "mine"
notes = "x"
[[principle]]
id = "a"
critique = "Say where it is unkind."
revison = "Write it anew, and kindly."
preference = "Choose the kindest of both."
tag = ["x"]
[[principle]]
id = "b"
critique = "Say where it is unkind."
[[principle]]
id = "c"
critique = "Say where it is cruel."
revision = " "
preference = "Choose what is less cruel."
[[principle]]
id = "d"
critique = "Say where it lies to them."
revision = "Take the lie out of it."
preference = "Choose what is truer, please."
[[principle]]
id = "d"
critique = "Say where it steals from them."
revision = "Take the theft out of it."
preference = "Choose what steals less, please."
"""


def test_every_fault_of_a_file_is_said_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(BROKEN)
    assert run(["constitution", "check", "mine.toml", "harmless"]) == 1
    printed = capsys.readouterr()
    assert printed.err.splitlines() == [
        "error: mine.toml: unknown key 'notes'; known: about, extends, name, principle",
        "error: mine.toml [principle 'a']: unknown key 'revison'; did you mean 'revision'?",
        "error: mine.toml [principle 'a']: unknown key 'tag'; did you mean 'tags'?",
        "error: mine.toml [principle 'b']: 'revision' is missing; add revision = ...",
        "error: mine.toml [principle 'b']: 'preference' is missing; add preference = ...",
        "error: mine.toml [principle 'c']: 'revision' is empty; write it out or take the principle out",
        "error: mine.toml [principle 'd']: the id is taken, in mine.toml; give it another id",
    ]
    first, second = printed.out.splitlines()
    assert first == "mine.toml: 1 principle, 7 errors, 0 warnings"
    assert second.endswith("harmless.toml: 28 principles, 0 errors, 0 warnings")
    with pytest.raises(CaiError, match="unknown key 'notes'"):
        raise examine("mine.toml")[1][0]


def test_a_file_that_cannot_be_read_is_one_fault(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("name =")
    checked = check_file(tmp_path / "x.toml")
    assert (checked.principles, len(checked.errors), checked.warnings) == (0, 1, ())


def test_principles_that_did_nothing_in_a_run(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    rows = [principle(id) for id in ("busy", "never", "blind", "torn", "new")]
    tables = [
        f'[[principle]]\nid = "{one.id}"\ncritique = "{one.critique}"\n'
        f'revision = "{one.revision}"\npreference = "{one.preference}"\n'
        for one in rows
    ]
    path.write_text('name = "x"\n' + "".join(tables))
    counts = {
        "busy": Counts(rounds=3, critiques=3, found=1, verdicts=2, decided=1),
        "never": Counts(expected=4.25),
        "blind": Counts(rounds=1200, critiques=1200),
        "torn": Counts(verdicts=2),
    }
    run = tmp_path / "run"
    warnings = check_file(path, run, counts).warnings
    said = [line.removeprefix(f"{path} [principle ") for line in warnings]
    assert said == [
        f"'never']: was never drawn (4.2 times were to be expected) in {run}",
        f"'blind']: found no fault in any of its 1,200 critiques in {run}",
        f"'torn']: decided none of its 2 verdicts in {run}",
        f"'new']: is in no constitution that the run was made under in {run}",
    ]
