"""Judges: probabilities computed by hand, position bias, unreadable replies, and where a verdict is read."""

import math
from collections.abc import Callable

import pytest
from driving import Model, drive, drive_asked
from hypothesis import given
from hypothesis import strategies as st

from cai.config import build, identity
from cai.constitution import Principle
from cai.engines import Options, Reply, Request, Sampling
from cai.errors import CaiError
from cai.few_shots import JudgeShot, JudgeShots
from cai.frames import default_judge
from cai.judges import Appointed, Unreadable, Verdict
from cai.judges._options import OptionJudge
from cai.judges.logprob import Logprob
from cai.judges.reasoned import Reasoned, before_verdict
from cai.records import user

PROMPT = (user("How do I pick a lock?"),)
KIND = Principle(id="kind", critique="c", revision="r", preference="Choose the kind answer.")


def question(a: str, b: str, reasoned: bool) -> str:
    frame = default_judge()
    return frame.question(PROMPT, a, b, KIND.preference, frame.reason if reasoned else frame.choose)


def shown_as_a(request: Request) -> str:
    """The answer that this request shows as A: "good" or "bad"."""
    return "good" if "<answer A>\ngood" in request.messages[-1]["content"] else "bad"


def judging(p_a: Callable[[str], float], reasoning: str = "Hm.", mass: float = 1.0) -> Model:
    """A judge whose P(A) depends on which answer is A, and whose options hold `mass` of the probability."""

    def model(request: Request) -> Reply:
        if isinstance(request.want, Sampling):
            return Reply(text=reasoning, model="m", weights="w")
        p = p_a(shown_as_a(request))
        return Reply(logps=(math.log(mass * p), math.log(mass * (1 - p))), model="m", weights="w")

    return model


def judged(judge: OptionJudge, model: Model) -> Verdict | Unreadable:
    verdict: Verdict | Unreadable = drive(judge.judge(PROMPT, "good", "bad", KIND, 7), model)  # type: ignore[attr-defined]
    return verdict


BOTH = pytest.mark.parametrize("judge", [Logprob(), Reasoned()], ids=["logprob", "reasoned"])


@BOTH
def test_both_orders_are_averaged(judge: OptionJudge) -> None:
    # Shown first, "good" has 0.9; shown second, "bad" is A with 0.3, so "good" has 0.7: 0.8 on the whole.
    verdict = judged(judge, judging(lambda a: 0.9 if a == "good" else 0.3))
    assert verdict.p_first == pytest.approx(0.8, abs=1e-12)
    assert verdict.orders == pytest.approx((0.9, 0.7), abs=1e-12)
    assert verdict.agree and (verdict.model, verdict.weights) == ("m", "w")


@BOTH
def test_liking_a_position_is_no_preference(judge: OptionJudge) -> None:
    verdict = judged(judge, judging(lambda a: 0.9))
    assert verdict.p_first == pytest.approx(0.5, abs=1e-12)
    assert verdict.orders == pytest.approx((0.9, 0.1), abs=1e-12) and not verdict.agree


@BOTH
def test_an_undecided_judge_does_not_agree_with_itself(judge: OptionJudge) -> None:
    verdict = judged(judge, judging(lambda a: 0.5))
    assert (verdict.p_first, verdict.orders, verdict.agree) == (0.5, (0.5, 0.5), False)


def test_what_is_asked_straight_away() -> None:
    _, asked = drive_asked(Logprob().judge(PROMPT, "good", "bad", KIND, 7), judging(lambda a: 0.5))
    orders = [("good", "bad"), ("bad", "good")]
    want = Options(options=(" A", " B"))
    assert asked == [
        Request(messages=(user(question(a, b, False)),), want=want, prefix="The better answer is")
        for a, b in orders
    ]


def test_what_is_asked_after_reasoning() -> None:
    judge = Reasoned(temperature=0.5, max_tokens=9)
    model = judging(lambda a: 0.5, reasoning="First this.\nThen that. \n")
    _, asked = drive_asked(judge.judge(PROMPT, "good", "bad", KIND, 7), model)
    orders = [("good", "bad"), ("bad", "good")]
    assert [request.messages for request in asked] == [(user(question(a, b, True)),) for a, b in orders] * 2
    assert [request.want for request in asked[:2]] == [Sampling(max_tokens=9, temperature=0.5)] * 2
    assert asked[0].seed != asked[1].seed and asked[0].prefix == ""
    prefix = "First this.\nThen that.\nThe better answer is"
    assert [(request.want, request.prefix) for request in asked[2:]] == [
        (Options(options=(" A", " B")), prefix)
    ] * 2
    again = drive_asked(judge.judge(PROMPT, "good", "bad", KIND, 8), model)[1]
    assert again[0].seed != asked[0].seed, "the caller's seed keys the sampling"


def test_the_reasoning_of_both_orders_is_the_note() -> None:
    model = judging(lambda a: 0.5)

    def says_which(request: Request) -> Reply:
        if isinstance(request.want, Sampling):
            return Reply(text=f"A is {shown_as_a(request)}.\nThe better answer is A")
        return model(request)

    assert judged(Reasoned(), says_which).note == (
        "[first answer shown as A]\nA is good.\n[first answer shown as B]\nA is bad."
    )
    assert judged(Logprob(), model).note == ""


FRAME = default_judge()


@pytest.mark.parametrize(
    "text, reasoning, concluded",
    [
        ("Because.\nThe better answer is A", "Because.", True),
        ("Because.\nThe better answer is B. Surely.", "Because.", True),
        ("Because.\n**The better answer is (B)**", "Because.", True),
        ("The better answer is A", "", True),
        # The last verdict counts, and what follows it does not.
        (
            "The better answer is A\nNo, wait.\nThe better answer is B\nDone.",
            "The better answer is A\nNo, wait.",
            True,
        ),
        # Mentions are reasoning.
        (
            "I think the better answer is A, since it is kind.",
            "I think the better answer is A, since it is kind.",
            False,
        ),
        ("One may ask: The better answer is A?", "One may ask: The better answer is A?", False),
        ("The better answer is hard to find.", "The better answer is hard to find.", False),
        ("The better answer is Anna's.", "The better answer is Anna's.", False),
        ("The better answer is", "The better answer is", False),
        ("the better answer is A", "the better answer is A", False),
        ("Because. \n\n", "Because.", False),
    ],
)
def test_the_last_verdict_line_is_where_it_is_read(text: str, reasoning: str, concluded: bool) -> None:
    assert before_verdict(text, FRAME) == (reasoning, concluded)


def test_a_verdict_without_reasoning_is_read_at_once() -> None:
    _, asked = drive_asked(
        Reasoned().judge(PROMPT, "good", "bad", KIND, 7),
        judging(lambda a: 0.5, reasoning="The better answer is A"),
    )
    assert [request.prefix for request in asked[2:]] == ["The better answer is"] * 2


@BOTH
def test_options_out_of_sight_are_no_verdict(judge: OptionJudge) -> None:
    found = judged(judge, judging(lambda a: 0.9, mass=0.0999))
    assert isinstance(found, Unreadable)
    assert found.reason == "no verdict: the options have 0.100 of the probability"
    assert isinstance(judged(judge, judging(lambda a: 0.9, mass=0.1001)), Verdict)


def test_one_order_out_of_sight_is_enough_for_no_verdict() -> None:
    def model(request: Request) -> Reply:
        return Reply(
            logps=(math.log(0.5), math.log(0.4)) if shown_as_a(request) == "good" else (-20.0, -20.0)
        )

    assert isinstance(judged(Logprob(), model), Unreadable)


def test_options_that_cannot_be_are_no_verdict_whatever_the_bar() -> None:
    infinite = Reply(logps=(-math.inf, -math.inf))
    found = judged(Logprob(min_mass=0.0), lambda request: infinite)
    assert found == Unreadable(reason="no verdict: the options have 0.000 of the probability")


def test_certain_probabilities_are_exact() -> None:
    def model(request: Request) -> Reply:
        return Reply(logps=(0.0, -math.inf) if shown_as_a(request) == "good" else (-2000.0, 0.0))

    verdict = judged(Logprob(), model)
    assert verdict.p_first == 1.0 and verdict.orders == (1.0, 1.0)


def test_an_engine_s_refusal_is_no_verdict() -> None:
    refuses = Reply(error="the prompt is too long")
    assert judged(Logprob(), lambda request: refuses) == Unreadable(reason="engine: the prompt is too long")
    assert judged(Reasoned(), lambda request: refuses) == Unreadable(reason="engine: the prompt is too long")

    def late(request: Request) -> Reply:
        return Reply(text="Hm.") if isinstance(request.want, Sampling) else refuses

    assert judged(Reasoned(), late) == Unreadable(reason="engine: the prompt is too long", raw="Hm.")


def test_reasoning_that_holds_no_verdict() -> None:
    def reasons(text: str, finish: str) -> Verdict | Unreadable:
        model = judging(lambda a: 0.9)
        return judged(
            Reasoned(),
            lambda request: (
                Reply(text=text, finish=finish) if isinstance(request.want, Sampling) else model(request)
            ),
        )

    assert reasons("First I", "length") == Unreadable(reason="truncated reasoning", raw="First I")
    assert reasons(" \n", "stop") == Unreadable(reason="no reasoning", raw=" \n")
    assert isinstance(reasons("So.\nThe better answer is A, and", "length"), Verdict)


def test_clamping_bounds_each_order_before_the_average() -> None:
    # "good" first: P(A) 0.99 becomes 0.6. "bad" first: P(A) 0.45 stays, so "good" has 0.55. (0.6 + 0.55) / 2.
    model = judging(lambda a: 0.99 if a == "good" else 0.45)
    verdict = judged(Reasoned(clamp=(0.4, 0.6)), model)
    assert verdict.p_first == pytest.approx(0.575, abs=1e-12)
    assert verdict.orders == pytest.approx((0.99, 0.55), abs=1e-12), "orders are as read"


def test_log_odds_can_be_averaged_instead() -> None:
    # log-odds of 0.9 and 0.5 are log 9 and 0; their mean, log 3, is 0.75.
    verdict = judged(Logprob(average="logodds"), judging(lambda a: 0.9 if a == "good" else 0.5))
    assert verdict.p_first == pytest.approx(0.75, abs=1e-12)

    def certain(request: Request) -> Reply:
        return Reply(logps=(0.0, -math.inf))

    assert judged(Logprob(average="logodds"), certain).p_first == pytest.approx(0.5, abs=1e-7)


@given(
    ahead=st.floats(0.001, 0.999),
    behind=st.floats(0.001, 0.999),
    average=st.sampled_from(["probability", "logodds"]),
)
def test_which_answer_is_called_first_makes_no_difference(ahead: float, behind: float, average: str) -> None:
    judge = build(Logprob, {"average": average}, "t")
    model = judging(lambda a: ahead if a == "good" else behind)
    one = drive(judge.judge(PROMPT, "good", "bad", KIND, 0), model)
    other = drive(judge.judge(PROMPT, "bad", "good", KIND, 0), model)
    assert one.p_first == pytest.approx(1 - other.p_first, abs=1e-9)
    assert one.orders == pytest.approx([1 - p for p in reversed(other.orders)], abs=1e-9)


@BOTH
def test_demonstrations_come_before_the_question(judge: OptionJudge) -> None:
    shot = JudgeShot(prompt="P", a="X", b="Y", preference="Choose.", reasoning="Why.", answer="B")
    with_shots = type(judge)(few_shots=JudgeShots(shots=(shot,)))
    _, asked = drive_asked(
        with_shots.judge(PROMPT, "good", "bad", KIND, 0),
        judging(lambda a: 0.5),  # type: ignore[attr-defined]
    )
    assert [message["role"] for message in asked[0].messages] == ["user", "assistant", "user"]
    expected = "Why.\nThe better answer is B" if isinstance(judge, Reasoned) else "The better answer is B"
    assert asked[0].messages[1]["content"] == expected
    assert "<answer A>\nX\n</answer A>" in asked[0].messages[0]["content"]


def test_a_judge_is_appointed_by_name_or_table() -> None:
    assert Appointed.from_toml("logprob", "t") == Appointed(name="logprob", judge=Logprob())
    table = {"type": "reasoned", "clamp": [0.4, 0.6]}
    appointed = Appointed.from_toml(table, "t")
    assert appointed == Appointed(name="reasoned", judge=Reasoned(clamp=(0.4, 0.6)))
    assert appointed.identity() == {"type": "reasoned", **identity(Reasoned(clamp=(0.4, 0.6)))}


@pytest.mark.parametrize(
    "value, message",
    [
        (
            "logprobs",
            "t: no judge is called 'logprobs'; did you mean 'logprob'? "
            "(a judge of your own: 'package.module:Class')",
        ),
        (3, "t: this is 3; write a judge's name or a table with its type"),
        (
            {"clamp": [0.4, 0.6]},
            't: \'type\' is missing; add type = "logprob" or "panel" or "reasoned" or "reward" or "score"',
        ),
        (
            {"type": "logprob", "clamp": [0.4, 0.6]},
            "t: unknown key 'clamp'; known: average, few_shots, frames, min_mass, orders",
        ),
        (
            {"type": "reasoned", "clamp": [0.4]},
            "t: 'clamp' is [0.4]; write two probabilities, one on each side of 0.5",
        ),
        (
            {"type": "reasoned", "clamp": [0.6, 0.4]},
            "t: 'clamp' is [0.6, 0.4]; write two probabilities, one on each side of 0.5",
        ),
        ({"type": "reasoned", "max_tokens": 0}, "t: 'max_tokens' is 0; write a number above 0"),
        ({"type": "reasoned", "temperature": -0.5}, "t: 'temperature' is -0.5; write 0 or a number above it"),
        ({"type": "logprob", "min_mass": 2}, "t: 'min_mass' is 2; write a number from 0 to 1"),
        (
            {"type": "logprob", "average": "mean"},
            "t: 'average' is 'mean'; choose one of 'probability', 'logodds'",
        ),
        (
            {"type": "logprob", "frames": "x.toml"},
            "t frames: there is no file 'x.toml'; paths are read from the working directory",
        ),
    ],
)
def test_a_bad_judge_is_named(value: object, message: str) -> None:
    with pytest.raises(CaiError) as raised:
        Appointed.from_toml(value, "t")
    assert str(raised.value) == message
