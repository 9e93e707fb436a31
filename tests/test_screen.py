"""screen: each rule, its switch, its words in the reject, and what it must let through."""

from dataclasses import fields, replace
from pathlib import Path

import pytest
from driving import answered, prompt

from cai.config import build
from cai.errors import CaiError
from cai.records import Record, Turn
from cai.stages.screen import Phrases, Screen, distinct_share

PROSE = (
    "First soak the beans overnight in cold water, then drain them and cover them with fresh water in a pot. "
    "Bring the pot to a boil, skim off the foam, and let them simmer for an hour with an onion. "
    "Salt them only when they are soft, since salt at the beginning would keep the skins tough."
)
LOOP = " ".join(["I hope that this helps you with it."] * 12)


def revised(text: str, before: str = "Take a spoon.", finish: str = "stop") -> Record:
    critique = Turn(kind="critique", text="Hm.", principle="p")
    return (
        answered(before).then(critique).then(Turn(kind="revision", text=text, principle="p", finish=finish))
    )


BROKEN = {
    "truncated": (revised(PROSE, finish="length"), "it ended at its token limit"),
    "empty": (revised(" \n"), ""),
    "unchanged": (revised("Take  a spoon.\n"), "revision 1 repeats the answer before"),
    "repetitive": (revised(LOOP), "9% of its runs of 4 words are different ones"),
    "leaking": (revised("Sure! Here is the revised answer: stir."), "'here is the revised'"),
}


@pytest.mark.parametrize("rule", BROKEN)
def test_each_rule_drops_with_its_reason_and_has_a_switch(rule: str) -> None:
    record, detail = BROKEN[rule]
    [row] = Screen().work(record)
    assert (row.stage, row.reason, row.detail) == ("screen", rule, detail)
    assert (row.item, row.prompt_id, row.raw) == (record.id, record.prompt_id, record.answer.text)
    assert replace(Screen(), **{rule: False}).work(record) == [record]


def test_every_switch_is_tested() -> None:
    assert {field.name for field in fields(Screen)} == {*BROKEN, "phrases"}


@pytest.mark.parametrize(
    "record",
    [
        answered(PROSE),
        revised(PROSE),
        revised("Take a spoon.", finish="kept"),
        revised("Take a fork."),
        answered("Take a spoon.").then(Turn(kind="critique", text="Hm.", finish="length")),
        answered("No."),
    ],
)
def test_what_is_sound_goes_through_unchanged(record: Record) -> None:
    assert Screen().work(record) == [record]


def test_a_response_is_screened_too_and_a_prompt_is_no_answer() -> None:
    [row] = Screen().work(answered("Take a", finish="length"))
    assert row.reason == "truncated"
    [row] = Screen().work(prompt())
    assert (row.reason, row.detail) == ("no answer", "screen takes what generate or revise wrote")


def test_unchanged_looks_at_the_answer_just_before() -> None:
    record = revised("Take a fork.")
    back = record.then(Turn(kind="revision", text="Take a spoon."))
    assert Screen().work(back) == [back]
    again = back.then(Turn(kind="revision", text="Take a spoon."))
    [row] = Screen().work(again)
    assert (row.reason, row.detail) == ("unchanged", "revision 3 repeats the answer before")


def test_the_share_of_different_runs_by_hand() -> None:
    # 27 words have 24 runs of four. "a b c" nine times has 3 different ones; 27 different words have 24.
    assert distinct_share(" ".join("abc" * 9)) == 3 / 24
    assert distinct_share(" ".join(f"w{at}" for at in range(27))) == 1
    assert distinct_share(" ".join("abc" * 8)) == 1, "too short to tell"
    assert distinct_share(PROSE) > 0.95
    assert distinct_share(PROSE + " " + LOOP) < 0.6
    # Without spaces, characters are counted: 30 of them, 27 runs, 3 different ones.
    assert distinct_share("你好吗" * 10) == 3 / 27


@pytest.mark.parametrize(
    "text",
    [
        "Here’s the revised version: stir.",
        "**Revised answer:** stir.",
        "Certainly. Sure, here is a rewritten answer. Stir.",
        "# Revised Response\nStir.",
        "I've rewritten it so that it is safer. Stir.",
        "Nothing to change.",
        "Stir.\n\nRevision request: make it better",
        "Based on the critique, I stir.",
        "Stir.</answer A>",
    ],
)
def test_leaks(text: str) -> None:
    [row] = Screen().work(revised(text))
    assert row.reason == "leaking"


@pytest.mark.parametrize(
    "text",
    [
        "Here is a recipe: stir.",
        "Sure, here is how to stir.",
        "The committee revised its answer, and there was nothing to change.",
        "You asked for a critique of the film. It is slow.",
        "Surely here is the revised edition of the map you asked for?",
        "Answer A is right.",
    ],
)
def test_no_leaks(text: str) -> None:
    assert Screen().work(revised(text)) == [revised(text)]


def test_phrases_are_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text('openers = ["Ahoy"]\nanywhere = ["Landlubber"]\n')
    stage = build(Screen, {"phrases": "mine.toml"}, "t")
    assert [
        row.detail for text in ("**ahoy** there", "a landlubber") for row in stage.work(revised(text))
    ] == [
        "'ahoy'",
        "'landlubber'",
    ]
    leak = revised("Here is the revised answer: stir.")
    assert stage.work(leak) == [leak]
    assert stage.phrases.fingerprint != Screen().phrases.fingerprint


@pytest.mark.parametrize(
    "text, message",
    [
        ('opener = ["x"]\n', "p.toml: unknown key 'opener'; did you mean 'openers'?"),
        ('openers = ["x"]\n', "p.toml: 'anywhere' is missing; add anywhere = ..."),
        ('openers = ["..."]\nanywhere = []\n', "p.toml: 'openers' holds an empty phrase; take it out"),
    ],
)
def test_bad_phrases_are_named(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("p.toml").write_text(text)
    with pytest.raises(CaiError) as raised:
        Phrases.from_toml("p.toml", "here")
    assert str(raised.value) == message
    with pytest.raises(CaiError, match=r"^here: this is 4; write the path of a file of phrases$"):
        Phrases.from_toml(4, "here")
