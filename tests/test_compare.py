"""compare: which answers meet, how a verdict becomes a row, and what becomes a reject."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from driving import answered, drive, drive_asked, never, prompt
from hypothesis import given
from hypothesis import strategies as st

from cai.config import build, identity
from cai.constitution import Constitution, Principle
from cai.engines import Reply, Request
from cai.errors import CaiError
from cai.judges import Appointed
from cai.judges.logprob import Logprob
from cai.records import Annotation, Candidate, Comparison, Record, Reject, Turn, digest, user
from cai.stages.compare import Compare

CONSTITUTION = Constitution(
    name="test",
    principles=tuple(
        Principle(id=id, critique="c", revision="r", preference=f"Choose the {id} one.")
        for id in ("kind", "short")
    ),
)
STAGE = Compare(constitution=CONSTITUTION, judge=Appointed(name="logprob", judge=Logprob()))


def model(p_a: Callable[[str, str], float]) -> Callable[[Request], Reply]:
    """A judge by P(A) of the texts shown as A and as B."""

    def reply(request: Request) -> Reply:
        shown = request.messages[-1]["content"].split("<answer A>\n")[1]
        a, b = shown.split("\n</answer A>\n<answer B>\n")
        p = p_a(a, b.split("\n</answer B>")[0])
        return Reply(logps=(math.log(p), math.log1p(-p)), model="judge", weights="jw")

    return reply


LONGER = model(lambda a, b: 0.9 if len(a) > len(b) else 0.2)


def four(*texts: str) -> list[Record]:
    return [answered(text, sample) for sample, text in enumerate(texts)]


def test_a_verdict_becomes_a_whole_row() -> None:
    records = four("long answer", "no")
    [row], asked = drive_asked(STAGE.work(records), LONGER)
    assert len(asked) == 2
    principle = next(one for one in CONSTITUTION.principles if one.id == row.annotations[0].principle)
    assert f"\n{principle.preference}\n" in asked[0].messages[0]["content"]
    # 0.9 for the longer one shown first, 1 - 0.2 = 0.8 shown second: 0.85.
    place = [candidate.text for candidate in row.candidates].index("long answer")
    longer, shorter = (0.85, 0.15) if place == 0 else (0.15, 0.85)
    orders = ((0.9, 0.1), (0.8, 0.2)) if place == 0 else ((0.2, 0.8), (0.1, 0.9))
    assert (
        row.probabilities == row.annotations[0].probabilities == pytest.approx((longer, shorter), abs=1e-12)
    )
    assert [pytest.approx(order, abs=1e-12) for order in orders] == list(row.annotations[0].orders)
    assert set(row.candidates) == {
        Candidate(text=record.answer.text, record=record.id, model="m0", weights="w0") for record in records
    }
    assert replace(row.annotations[0], probabilities=(), orders=()) == Annotation(
        annotator="logprob",
        principle=principle.id,
        protocol="both orders",
        probabilities=(),
        shown=((0, 1), (1, 0)),
        agree=True,
        wording=digest(identity(Logprob()), principle.fingerprint),
        model="judge",
        weights="jw",
    )
    assert (row.prompt, row.prompt_id) == (records[0].prompt, records[0].prompt_id)


@given(st.permutations(range(4)))
def test_rows_do_not_depend_on_the_order_of_the_answers(order: list[int]) -> None:
    records = four("a", "bb", "ccc", "dddd")
    rows = drive(STAGE.work([records[at] for at in order]), LONGER)
    assert {row.id: row for row in rows} == {row.id: row for row in drive(STAGE.work(records), LONGER)}
    assert len(rows) == 6


def test_the_place_of_an_answer_tells_nothing_of_its_source() -> None:
    first = Counter(
        drive(STAGE.work([answered("x", request=f"q{at}"), answered("yy", 1, request=f"q{at}")]), LONGER)[0]
        .candidates[0]
        .text
        for at in range(400)
    )
    # Five standard deviations of a fair coin.
    assert abs(first["x"] - 200) < 50


def test_the_principle_is_drawn_for_each_pair_and_the_seed() -> None:
    rows = drive(STAGE.work(four(*"abcdef")), LONGER)
    drawn = {row.id: row.annotations[0].principle for row in rows}
    assert set(drawn.values()) == {"kind", "short"}
    again = drive(replace(STAGE, seed=1).work(four(*"abcdef")), LONGER)
    assert {row.id for row in again} == set(drawn)
    assert any(row.annotations[0].principle != drawn[row.id] for row in again)


def meetings(stage: Compare, *texts: str) -> set[str]:
    rows = drive(stage.work(four(*texts)), LONGER)
    return {"".join(sorted(candidate.text for candidate in row.candidates)) for row in rows}


def test_which_answers_meet() -> None:
    assert meetings(STAGE, "a", "b", "c", "d") == {"ab", "ac", "ad", "bc", "bd", "cd"}
    assert meetings(replace(STAGE, pairing="adjacent"), "a", "b", "c", "d") == {"ab", "bc", "cd"}
    some = drive(replace(STAGE, per_prompt=2).work(four(*"abcd")), LONGER)
    again = drive(replace(STAGE, per_prompt=2).work(four(*"abcd")[::-1]), LONGER)
    assert len(some) == 2 and {row.id for row in some} == {row.id for row in again}
    seeds = {frozenset(meetings(replace(STAGE, per_prompt=2, seed=seed), *"abcd")) for seed in range(20)}
    assert len(seeds) > 5, "which ones are taken is drawn"


def test_the_same_record_answered_by_two_models_is_two_answers() -> None:
    one = answered("a")
    other = replace(one, turns=(replace(one.turns[0], text="b", model="m1", weights="w1"),))
    [row] = drive(STAGE.work([one, other]), LONGER)
    assert {candidate.weights for candidate in row.candidates} == {"w0", "w1"}
    [revised] = drive(STAGE.work([one, one.then(Turn(kind="revision", text="b", weights="w0"))]), LONGER)
    assert {candidate.text for candidate in revised.candidates} == {"a", "b"} and revised.id != row.id


def reasons(rows: list[object]) -> list[tuple[str, str]]:
    return [(row.reason, row.detail) for row in rows if isinstance(row, Reject)]


def test_answers_to_other_words_do_not_meet() -> None:
    """As the tries of `attack` on one request, which keep its id."""
    one = answered("a")
    other = replace(answered("b", 1), prompt=(user("Play Vesper. How do I pick a lock?"),))
    rows = drive(STAGE.work([one, other]), never)
    assert reasons(rows) == [("another prompt", f"it answers other words than {one.id}")]


def test_answers_that_cannot_meet() -> None:
    records = four("same", " same\n")
    rows = drive(STAGE.work(records), never)
    assert reasons(rows) == [("identical", f"the same text as {records[0].id}")]
    assert rows[0].item == records[1].id
    assert reasons(drive(STAGE.work(four("a")), never)) == [
        ("no rival", "compare takes two answers to a prompt or more")
    ]
    assert reasons(drive(STAGE.work([prompt()]), never)) == [
        ("no answer", "compare takes what generate or revise wrote")
    ]
    rows = drive(STAGE.work([prompt(), answered("a", 1)]), never)
    assert [reason for reason, _ in reasons(rows)] == ["no answer", "no rival"]
    rows = drive(STAGE.work(four("a", "b", "a")), LONGER)
    assert [type(row) for row in rows] == [Comparison, Reject] and rows[1].reason == "identical"


def test_no_verdict_is_a_reject_and_never_a_row() -> None:
    records = four("good", "bad")

    def mute(request: Request) -> Reply:
        return Reply(logps=(-9.0, -9.0))

    [row] = drive(STAGE.work(records), mute)
    [comparison] = drive(STAGE.work(records), LONGER)
    principle = comparison.annotations[0].principle
    assert (row.item, row.stage, row.reason) == (comparison.id, "compare", "unreadable")
    assert row.detail == f"no verdict: the options have 0.000 of the probability; principle '{principle}'"


def test_a_judge_that_likes_a_position_is_kept_at_one_half_or_rejected() -> None:
    records = four("good", "bad")
    biased = model(lambda a, b: 0.9)
    [row] = drive(STAGE.work(records), biased)
    assert row.probabilities == pytest.approx((0.5, 0.5), abs=1e-12) and not row.annotations[0].agree
    principle = row.annotations[0].principle
    detail = f"P(first) 0.900 shown first, 0.100 shown second; principle '{principle}'"
    rows = drive(replace(STAGE, disagreements="reject").work(records), biased)
    assert reasons(rows) == [("orders disagree", detail)]
    assert reasons(drive(replace(STAGE, ties="reject").work(records), biased)) == [("tie", detail)]


def test_how_near_one_half_a_tie_is() -> None:
    slight = model(lambda a, b: 0.56 if len(a) > len(b) else 0.44)
    records = four("longer", "short")
    assert isinstance(drive(replace(STAGE, ties="reject").work(records), slight)[0], Comparison)
    assert isinstance(drive(replace(STAGE, ties="reject", tie_margin=0.1).work(records), slight)[0], Reject)
    assert isinstance(drive(STAGE.work(records), slight)[0], Comparison)


def test_the_default_judge_reasons() -> None:
    assert Compare(constitution=CONSTITUTION).judge == Appointed.from_toml("reasoned", "here")


@pytest.mark.parametrize(
    "table, message",
    [
        ({"per_prompt": -1}, "t: 'per_prompt' is -1; write 0 or a number above it"),
        ({"tie_margin": 0.1}, "t: 'tie_margin' has no use while ties are kept; add ties = \"reject\""),
        ({"ties": "reject", "tie_margin": 0.5}, "t: 'tie_margin' is 0.5; write a number between 0 and 0.5"),
        ({"ties": "drop"}, "t: 'ties' is 'drop'; choose one of 'keep', 'reject'"),
        ({"pairing": "some"}, "t: 'pairing' is 'some'; choose one of 'all', 'adjacent'"),
        (
            {"judge": {"type": "logprob", "min_mas": 0}},
            "t judge: unknown key 'min_mas'; did you mean 'min_mass'?",
        ),
    ],
)
def test_a_bad_key_is_named(table: dict[str, object], message: str) -> None:
    with pytest.raises(CaiError) as raised:
        build(Compare, {"constitution": "harmless", **table}, "t")
    assert str(raised.value) == message
