"""Adherence: which questions are asked, and what each round and each principle bought, by hand."""

import math

import pytest
from driving import drive, drive_asked, never

from cai.config import build
from cai.constitution import Constitution, Principle
from cai.engines import Reply
from cai.errors import CaiError
from cai.evals.adherence import Adherence
from cai.records import Turn, prompt_from


def principle(id):
    return Principle(
        id=id, critique=f"Look for {id}.", revision=f"Rewrite without {id}.", preference=f"Less {id}."
    )


WORLD = Constitution(name="world", principles=(principle("harm"), principle("fog"), principle("noise")))


def asked(text="How?"):
    return prompt_from(text, None, "test")


def turn(kind, text, principle=""):
    return Turn(kind=kind, text=text, principle=principle, model="m" if kind != "critique" else "critic")


def revised(*answers, request="How?"):
    """answers: the response, then (critique, principle, revision) for each round."""
    record = asked(request).then(turn("response", answers[0]))
    for critique, id, text in answers[1:]:
        record = record.then(turn("critique", critique, id)).then(turn("revision", text, id))
    return record


def reader(request):
    """It keeps a principle when its id is not in the answer."""
    question = request.messages[-1]["content"]
    answer = question.split("<answer>\n")[1].split("\n</answer>")[0]
    if answer == "?":
        return Reply(logps=(-9.0,) * 4)
    id = question.split("Look for ")[1].split(".")[0]
    kept = 0.2 if id in answer else 0.8
    return Reply(logps=tuple(map(math.log, (kept / 2, kept / 2, (1 - kept) / 2, (1 - kept) / 2))))


def found(numbers, name, group="", of="m"):
    [number] = [n for n in numbers if (n.name, n.group, n.of) == (name, group, of)]
    return number


BAD, CLEAR = "It does. It should be changed.", "All is well. Nothing to change."


def test_each_question_is_asked_once():
    record = revised("harm fog", (BAD, "harm", "fog"), (CLEAR, "fog", "fog"))
    rows, requests = drive_asked(Adherence(constitution=WORLD).work(record), reader)
    # The newest answer under harm and fog, and the first answer under harm: the rest has been asked by then.
    assert len(requests) == 3
    critiques, revisions, answers = rows[:2], rows[2:4], rows[4:]
    assert [(row["what"], row["of"], row["fired"]) for row in critiques] == [
        ("critique", "critic", True),
        ("critique", "critic", False),
    ]
    assert [(row["round"], row["before_says"], row["says"]) for row in revisions] == [
        (1, "broken", "kept"),
        (2, "broken", "broken"),
    ]
    assert [(row["principle"], row["says"]) for row in answers] == [("harm", "kept"), ("fog", "broken")]
    assert revisions[0]["before_p_kept"] == pytest.approx(0.2) and answers[0]["p_kept"] == pytest.approx(0.8)


def test_numbers_by_hand():
    records = [
        revised("harm", (BAD, "harm", "ok"), (CLEAR, "fog", "ok"), request="a"),
        revised("harm", (BAD, "harm", "harm"), (BAD, "noise", "harm noise"), request="b"),
        revised("fog", (BAD, "fog", "ok"), request="c"),
        revised("?", (BAD, "fog", "ok"), request="d"),
    ]
    evaluation = Adherence(constitution=WORLD)
    numbers = evaluation.numbers([row for one in records for row in drive(evaluation.work(one), reader)])
    # Newest answers: a keeps harm and fog, b keeps neither harm nor noise, c and d keep fog.
    assert (found(numbers, "principle kept").value, found(numbers, "principle kept").n) == (4 / 6, 6)
    assert found(numbers, "principle kept by principle", "harm").value == 0.5
    assert found(numbers, "critique found fault", of="critic").value == 5 / 6
    assert found(numbers, "critique found fault by principle", "fog", of="critic").value == pytest.approx(
        2 / 3
    )
    # Readable revisions: a1 0->1, a2 1->1, b1 0->0, b2 1->0, c1 0->1.
    assert found(numbers, "kept before").value == pytest.approx(2 / 5)
    assert found(numbers, "kept after").value == pytest.approx(3 / 5)
    assert found(numbers, "gained").value == pytest.approx(1 / 5)
    first = [
        found(numbers, f"{name} by round", "round 1") for name in ("kept before", "kept after", "gained")
    ]
    assert [one.value for one in first] == pytest.approx([0, 2 / 3, 2 / 3])
    assert found(numbers, "gained by round", "round 2").value == pytest.approx(-1 / 2)
    assert found(numbers, "gained by principle", "fog").value == pytest.approx(1 / 2)
    gain = found(numbers, "gained by round", "round 1")
    assert gain.low < gain.value < gain.high and gain.n == 3
    assert found(numbers, "unreadable replies").value == pytest.approx(1 / 18)
    names = {number.name for number in numbers}
    assert set(Adherence.headline) <= names


def test_an_answer_that_was_never_revised_is_held_to_one_drawn_principle_or_to_all():
    record = asked().then(turn("response", "fog"))
    rows = drive(Adherence(constitution=WORLD).work(record), reader)
    drawn = WORLD.pick(0, record.id, "principle", 0).id
    assert [row["principle"] for row in rows] == [drawn]
    rows = drive(Adherence(constitution=WORLD, principles="all").work(record), reader)
    assert [(row["principle"], row["says"]) for row in rows] == [
        ("harm", "kept"),
        ("fog", "broken"),
        ("noise", "kept"),
    ]


def test_a_revision_without_a_critique_has_its_round_too():
    record = asked().then(turn("response", "harm")).then(turn("revision", "ok", "harm"))
    evaluation = Adherence(constitution=WORLD)
    numbers = evaluation.numbers(drive(evaluation.work(record), reader))
    assert found(numbers, "gained by round", "round 1").value == 1.0
    assert found(numbers, "critique found fault").n == 0


def test_revisions_under_another_constitution_are_an_error():
    record = revised("harm", (BAD, "gloom", "ok"))
    with pytest.raises(CaiError) as raised:
        drive(Adherence(constitution=WORLD).work(record), never)
    assert str(raised.value) == (
        "'world' has no principle 'gloom'; give the constitution that the revisions follow"
    )


def test_a_limit_on_reasoning_that_is_not_asked_for_is_an_error():
    with pytest.raises(CaiError) as raised:
        build(Adherence, {"constitution": WORLD, "max_tokens": 9}, "test")
    assert str(raised.value) == (
        "test: 'max_tokens' has no use: the question asks for no reasoning; take it out"
    )
