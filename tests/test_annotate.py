"""Several opinions on one pair: principles, a panel, a chain of judges, humans; nothing said is ever lost."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from driving import Model, answered, drive, drive_asked, never

from cai.annotations import combined
from cai.config import build
from cai.constitution import Constitution, Principle
from cai.engines import Options, Reply, Request, Sampling
from cai.errors import CaiError
from cai.judges import Appointed
from cai.judges.logprob import Logprob
from cai.recipe import load
from cai.records import Annotation, Candidate, Comparison, Reject, comparison_from, to_row
from cai.show import rendered
from cai.stages.annotate import Annotate
from cai.stages.compare import Compare

CONSTITUTION = Constitution(
    name="test",
    principles=tuple(
        Principle(id=id, critique="c", revision="r", preference=f"Choose the {id} one.", weight=weight)
        for id, weight in (("kind", 2.0), ("short", 1.0), ("true", 1.0))
    ),
)
JUDGE = Appointed(name="logprob", judge=Logprob())
COMPARE = Compare(constitution=CONSTITUTION, judge=JUDGE)
ANNOTATE = Annotate(constitution=CONSTITUTION, judge=JUDGE)
# P(the longer answer), by principle.
LONGER = {"kind": 0.9, "short": 0.3, "true": 0.6}
RECORDS = [answered("a long one", 0), answered("short", 1)]


def principle_of(request: Request) -> str:
    text = request.messages[-1]["content"]
    return next(id for id in LONGER if f"Choose the {id} one." in text)


def by_principle(chances: dict[str, float], mute: frozenset[str] = frozenset(), model: str = "m") -> Model:
    """A judge without position bias; P(the longer one) by principle; no verdict under those in `mute`."""

    def reply(request: Request) -> Reply:
        name = principle_of(request)
        p = (
            chances[name]
            if "<answer A>\na long one" in request.messages[-1]["content"]
            else 1 - chances[name]
        )
        if name in mute and isinstance(request.want, Options):
            return Reply(logps=(-30.0, -30.0), model=model)
        return Reply(text="Hm.", logps=(math.log(p), math.log1p(-p)), model=model, weights="w")

    return reply


def p_longer(row: Comparison, probabilities: tuple[float, ...]) -> float:
    return probabilities[[candidate.text for candidate in row.candidates].index("a long one")]


def reasons(rows: list[Any]) -> list[tuple[str, str]]:
    return [(row.reason, row.detail) for row in rows if isinstance(row, Reject)]


def test_all_principles_are_an_annotation_each_by_their_weights() -> None:
    [row] = drive(replace(COMPARE, principles=0).work(RECORDS), by_principle(LONGER))
    found = {one.principle: (p_longer(row, one.probabilities), one.weight) for one in row.annotations}
    assert found == {id: (pytest.approx(p), 2.0 if id == "kind" else 1.0) for id, p in LONGER.items()}
    assert p_longer(row, row.probabilities) == pytest.approx((2 * 0.9 + 0.3 + 0.6) / 4, abs=1e-12)
    assert row.probabilities == combined(row.annotations)


def test_drawn_principles_have_had_their_weight_in_the_draw() -> None:
    [single] = drive(COMPARE.work(RECORDS), by_principle(LONGER))
    [row], asked = drive_asked(replace(COMPARE, principles=2).work(RECORDS), by_principle(LONGER))
    names = [one.principle for one in row.annotations]
    assert len(asked) == 4 and len(set(names)) == 2 and [one.weight for one in row.annotations] == [1.0, 1.0]
    assert row.annotations[0] == single.annotations[0], "to draw more keeps what was drawn"
    mean = sum(LONGER[name] for name in names) / 2
    assert p_longer(row, row.probabilities) == pytest.approx(mean, abs=1e-12)


def test_the_draw_of_several_goes_by_weight() -> None:
    firsts = [CONSTITUTION.picks(2, seed, "x") for seed in range(4000)]
    assert all(len({one.id for one in two}) == 2 for two in firsts)
    # kind first has 2/4; kind second has 1/4 * 2/3 after each of the others: 5/6 on the whole.
    share = sum("kind" in {one.id for one in two} for two in firsts) / 4000
    assert abs(share - 5 / 6) < 5 * math.sqrt(5 / 36 / 4000)
    assert [two[0] for two in firsts] == [CONSTITUTION.pick(seed, "x") for seed in range(4000)]


def test_a_panel_keeps_every_judge_s_word() -> None:
    panel = Appointed.from_toml(
        {"type": "panel", "judges": ["logprob", {"type": "reasoned", "name": "thinker", "weight": 3}]}, "t"
    )
    [row] = drive(replace(COMPARE, judge=panel, principles=0).work(RECORDS), by_principle(LONGER))
    found = {(one.annotator, one.principle): one.weight for one in row.annotations}
    assert found == {
        (judge, id): weight * (2.0 if id == "kind" else 1.0)
        for judge, weight in (("logprob", 1.0), ("thinker", 3.0))
        for id in LONGER
    }
    assert row.probabilities == combined(row.annotations)
    assert all(one.note for one in row.annotations if one.annotator == "thinker")


def test_who_could_not_be_read_is_named() -> None:
    mute = by_principle(LONGER, frozenset({"true"}))
    why = "no verdict: the options have 0.000 of the probability"
    rows = drive(replace(COMPARE, principles=0).work(RECORDS), mute)
    detail = f"2 of 3 principles could be read, and 3 must; principle 'true': {why}"
    assert reasons(rows) == [("unreadable", detail)] and len(rows) == 1
    rows = drive(replace(COMPARE, principles=0, quorum=2).work(RECORDS), mute)
    assert [type(row) for row in rows] == [Comparison, Reject]
    assert reasons(rows) == [("unreadable member", f"{why}; principle 'true'")]
    assert (rows[1].item, len(rows[0].annotations)) == (rows[0].id, 2)


def test_a_member_of_a_panel_that_could_not_be_read_is_named() -> None:
    panel = Appointed.from_toml({"type": "panel", "judges": ["logprob", "reasoned"], "quorum": 1}, "t")

    def model(request: Request) -> Reply:
        reply = by_principle(LONGER)(request)
        return replace(reply, finish="length") if isinstance(request.want, Sampling) else reply

    rows = drive(replace(COMPARE, judge=panel).work(RECORDS), model)
    principle = rows[0].annotations[0].principle
    assert [one.annotator for one in rows[0].annotations] == ["logprob"]
    assert reasons(rows) == [
        ("unreadable member", f"truncated reasoning; 'reasoned'; principle '{principle}'")
    ]


def test_samples_are_orders_of_their_own() -> None:
    judge = Appointed.from_toml({"type": "reasoned", "samples": 2, "temperature": 1.0}, "t")
    [row] = drive(replace(COMPARE, judge=judge).work(RECORDS), by_principle(LONGER))
    [annotation] = row.annotations
    assert annotation.shown == ((0, 1), (1, 0)) * 2 and len(annotation.orders) == 4
    assert (annotation.protocol, annotation.agree) == ("both orders", True)


def test_ties_and_disagreements_are_those_of_all_opinions() -> None:
    # 0.8 and 0.2 under two of three principles, 0.5 under the third.
    split = by_principle({"kind": 0.8, "short": 0.2, "true": 0.5})
    plain = replace(
        COMPARE,
        constitution=replace(
            CONSTITUTION, principles=tuple(replace(one, weight=1.0) for one in CONSTITUTION.principles)
        ),
        principles=0,
    )
    [row] = drive(plain.work(RECORDS), split)
    assert row.probabilities == pytest.approx((0.5, 0.5), abs=1e-12)
    names = "principle 'kind'; principle 'short'; principle 'true'"
    detail = f"P(first) 0.500 shown first, 0.500 shown second; {names}"
    assert reasons(drive(replace(plain, ties="reject").work(RECORDS), split)) == [("tie", detail)]


def test_a_tie_of_answers_rated_apart_has_no_orders() -> None:
    stage = Compare(judge=Appointed.from_toml("reward", "t"), ties="reject")
    rows = drive(stage.work(RECORDS), lambda request: Reply(score=1.0))
    assert reasons(rows) == [("tie", "P(first) 0.500")]


# annotate


def made() -> Comparison:
    [row] = drive(COMPARE.work(RECORDS), by_principle(LONGER))
    assert isinstance(row, Comparison)
    return row


def test_another_model_s_word_stands_beside_the_first() -> None:
    before = made()
    principle = before.annotations[0].principle
    second = by_principle({id: 0.5 for id in LONGER}, model="m2")
    [row] = drive(replace(ANNOTATE, weight=3.0).work(before), second)
    assert replace(row, annotations=(), probabilities=()) == replace(before, annotations=(), probabilities=())
    assert row.annotations[0] == before.annotations[0]
    new = row.annotations[1]
    assert (new.annotator, new.principle, new.model, new.weight) == ("logprob", principle, "m2", 3.0)
    # (1 * p + 3 * 0.5) / 4
    assert p_longer(row, row.probabilities) == pytest.approx((LONGER[principle] + 1.5) / 4, abs=1e-12)
    assert comparison_from(to_row(row), "t") == row


def test_a_chain_is_a_panel() -> None:
    first, second, third = (by_principle({id: p for id in LONGER}) for p in (0.9, 0.6, 0.3))
    [one] = drive(COMPARE.work(RECORDS), first)
    [two] = drive(ANNOTATE.work(one), second)
    [three] = drive(ANNOTATE.work(two), third)
    assert p_longer(three, three.probabilities) == pytest.approx(0.6, abs=1e-12)
    assert len(three.annotations) == 3


def test_a_reward_model_needs_no_principle() -> None:
    before = made()
    reward = Annotate(judge=Appointed.from_toml("reward", "t"))
    [row] = drive(reward.work(before), lambda request: Reply(score=float(len(request.want.completion))))
    new = row.annotations[1]
    assert (new.annotator, new.principle, new.protocol, new.orders) == ("reward", "", "rated apart", ())
    assert sorted(new.scores) == [5.0, 10.0]
    one, other = new.scores
    assert rendered(to_row(row)).endswith(f"\njudged by reward, scores {one:.3f}, {other:.3f}")
    assert p_longer(row, new.probabilities) == pytest.approx(1 / (1 + math.exp(-5)), abs=1e-12)


def test_an_unreadable_verdict_loses_no_earlier_one() -> None:
    before = made()
    mute = by_principle(LONGER, frozenset(LONGER))
    principle = before.annotations[0].principle
    detail = f"no verdict: the options have 0.000 of the probability; principle '{principle}'"
    rows = drive(ANNOTATE.work(before), mute)
    assert reasons(rows) == [("unreadable", detail)] and rows[0].item == before.id
    kept = drive(replace(ANNOTATE, unreadable="keep").work(before), mute)
    assert kept[0] == before and reasons(kept) == [("unreadable", detail)]


def test_a_human_keeps_the_last_word() -> None:
    before = made()
    place = [candidate.text for candidate in before.candidates].index("short")
    said = tuple(float(at == place) for at in range(2))
    human = Annotation(annotator="human:ann", protocol="review", probabilities=said)
    reviewed = replace(before, annotations=(*before.annotations, human), probabilities=said)
    [row] = drive(ANNOTATE.work(reviewed), by_principle(LONGER))
    assert row.probabilities == said and len(row.annotations) == 3
    [weighed] = drive(replace(ANNOTATE, humans="weigh").work(reviewed), by_principle(LONGER))
    p = LONGER[before.annotations[0].principle]
    assert p_longer(weighed, weighed.probabilities) == pytest.approx(2 * p / 3, abs=1e-12)


def test_only_pairs_are_annotated() -> None:
    three = Comparison(
        id="c",
        prompt_id="p",
        prompt=RECORDS[0].prompt,
        candidates=tuple(Candidate(text=text) for text in "abc"),
        annotations=(),
        probabilities=(0.2, 0.3, 0.5),
    )
    assert reasons(drive(ANNOTATE.work(three), never)) == [
        ("several candidates", "annotate takes two candidates, and there are 3")
    ]


@pytest.mark.parametrize(
    "stage, table, message",
    [
        (Compare, {}, "t: 'constitution' is missing; add constitution = ..."),
        (
            Compare,
            {"constitution": "harmless", "judge": "reward"},
            "t: 'constitution' has no use: judge 'reward' reads no principle",
        ),
        (
            Compare,
            {"judge": "reward", "principles": 2},
            "t: 'principles' has no use: judge 'reward' reads none; take it out",
        ),
        (
            Compare,
            {"constitution": "harmless", "principles": 29},
            "t: 'principles' is 29; 'harmless' has 28, and 0 stands for all",
        ),
        (
            Compare,
            {"constitution": "harmless", "quorum": 1},
            "t: 'quorum' has no use for a single principle; take it out",
        ),
        (
            Compare,
            {"constitution": "harmless", "principles": 3, "quorum": 4},
            "t: 'quorum' is 4; there are 3 principles: write a number from 1 to 3",
        ),
        (
            Compare,
            {"constitution": "harmless", "judge": "score", "disagreements": "reject"},
            "t: 'disagreements' has no use: judge 'score' does not show both orders; take it out",
        ),
        (
            Compare,
            {
                "constitution": "harmless",
                "judge": {"type": "logprob", "orders": "first"},
                "disagreements": "reject",
            },
            "t: 'disagreements' has no use: judge 'logprob' does not show both orders; take it out",
        ),
        (Annotate, {"constitution": "harmless", "weight": 0}, "t: 'weight' is 0; write a number above 0"),
        (
            Annotate,
            {"constitution": "harmless", "pairing": "all"},
            "t: unknown key 'pairing'; known: constitution, disagreements, humans, judge, principles, "
            "quorum, seed, tie_margin, ties, unreadable, weight",
        ),
    ],
)
def test_a_bad_key_is_named(stage: type[Any], table: dict[str, object], message: str) -> None:
    with pytest.raises(CaiError) as raised:
        build(stage, table, "t")
    assert str(raised.value) == message


RECIPE = """
constitution = "harmless"
[engines.start]
type = "scripted"
[engines.other]
type = "scripted"
model = "other"
[[steps]]
name = "answers"
stage = "generate"
engine = "start"
from = "prompts.jsonl"
samples = 2
[[steps]]
name = "compared"
stage = "compare"
engine = "start"
judge = "logprob"
[[steps]]
name = "second"
stage = "annotate"
engine = "other"
judge = "logprob"
[[steps]]
name = "scored"
stage = "annotate"
engine = "other"
judge = "reward"
"""


def test_a_recipe_s_constitution_goes_to_those_who_read_one(tmp_path: Path) -> None:
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "Hello"}\n')
    (tmp_path / "recipe.toml").write_text(RECIPE.replace('"prompts.jsonl"', f'"{tmp_path}/prompts.jsonl"'))
    steps = load(tmp_path / "recipe.toml").steps
    assert [step.stage.constitution is None for step in steps[1:]] == [False, False, True]


def test_a_chain_of_judges_as_a_recipe(tmp_path: Path) -> None:
    from cai.cli import run
    from cai.rows import read_comparisons

    (tmp_path / "prompts.jsonl").write_text("".join(f'{{"prompt": "Say {at}"}}\n' for at in range(5)))
    (tmp_path / "recipe.toml").write_text(RECIPE.replace('"prompts.jsonl"', f'"{tmp_path}/prompts.jsonl"'))
    assert run(["run", str(tmp_path / "recipe.toml"), "--quiet"]) == 0
    rows = list(read_comparisons(tmp_path / "scored.jsonl"))
    assert len(rows) == 5
    for row in rows:
        assert [(one.annotator, one.model) for one in row.annotations] == [
            ("logprob", "scripted"),
            ("logprob", "other"),
            ("reward", "other"),
        ]
        assert row.annotations[0].principle == row.annotations[1].principle != ""
        assert row.probabilities == combined(row.annotations)
    assert [row.id for row in rows] == [row.id for row in read_comparisons(tmp_path / "compared.jsonl")]
