"""SFT and DPO against hand-computed values, in float64; what cannot be learned from is counted."""

import json
import math
from dataclasses import replace

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st

from cai.config import build
from cai.errors import CaiError
from cai.objectives._preference import choice_loss
from cai.objectives.dpo import Dpo
from cai.objectives.sft import Sft
from cai.plugins import find
from cai.records import Annotation, Candidate, Comparison, Record, Turn, assistant, user
from cai.training.data import Conversation, Preference
from cai.training.distributed import ALONE
from cai.training.loop import train
from cai.training.settings import TrainSettings

TOKENIZER = tiny.tokenizer()
ONE_STEP = TrainSettings(lr=1e-2, steps=1, batch_size=8)


def talk(name, request, answer, weight=1.0):
    return Conversation(id=name, messages=(user(request), assistant(answer)), weight=weight)


def pair(name, a, b, p_a, weight=1.0):
    return Preference(id=name, prompt=(user("hi"),), a=a, b=b, p_a=p_a, weight=weight)


def logps(model, request, answer):
    """log p of each token of the answer and its end-of-turn, from the model's full logits."""
    text = f"<|im_start|>user\n{request}<|im_end|>\n<|im_start|>assistant\n"
    prompt = TOKENIZER(text, add_special_tokens=False)["input_ids"]
    ids = prompt + TOKENIZER(f"{answer}<|im_end|>", add_special_tokens=False)["input_ids"]
    scores = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return torch.stack([scores[at - 1, ids[at]] for at in range(len(prompt), len(ids))])


def the_loss(objective, sources, model, start=None, folder=None):
    """Mean loss and metrics of one step over all sources; `start` is the model that training began with."""
    data = objective.prepare(sources, TOKENIZER, 128)
    data = objective.setup(start or model, data, folder, ALONE)
    (step,) = objective.batches(model, data, ONE_STEP, ALONE, 0)
    losses = [objective.loss(model, micro) for micro in step.micros]
    metrics = {key: sum(loss.metrics[key] for loss in losses) / step.weight for key in losses[0].metrics}
    return sum(loss.total for loss in losses) / step.weight, metrics


def test_sft_is_the_weighted_mean_over_the_answers_tokens():
    model = tiny.model(dtype=torch.float64)
    sources = [talk("one", "hi", "yes"), talk("two", "go on", "k", weight=3.0)]
    yes, k = logps(model, "hi", "yes"), logps(model, "go on", "k")
    expected = -(yes.sum() + 3 * k.sum()) / (len(yes) + 3 * len(k))
    loss, _ = the_loss(Sft(), sources, model)
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("label", ["soft", "hard"])
def test_dpo_by_hand(tmp_path, label):
    model, start = tiny.model(1, torch.float64), tiny.model(0, torch.float64)
    sources = [pair("one", "yes", "no", 0.7), pair("two", "k", "never mind", 0.4, weight=2.0)]
    expected, margins = 0.0, []
    for source in sources:
        p = source.p_a if label == "soft" else float(source.p_a > 0.5)
        a, b = ((logps(model, "hi", t) - logps(start, "hi", t)).sum() for t in (source.a, source.b))
        odds = 0.3 * (a - b).item()
        margins.append(odds)
        each = -p * math.log(1 / (1 + math.exp(-odds))) - (1 - p) * math.log(1 / (1 + math.exp(odds)))
        expected += source.weight * each
    loss, metrics = the_loss(Dpo(beta=0.3, label=label), sources, model, start, tmp_path)
    assert loss.item() == pytest.approx(expected / 3, rel=1e-9)
    assert metrics["margin"] == pytest.approx((margins[0] + 2 * margins[1]) / 3, rel=1e-9)
    right = (margins[0] > 0) + 2 * (margins[1] < 0)
    assert metrics["accuracy"] == pytest.approx(right / 3)


def test_dpo_starts_at_log_2_with_half_of_the_pairs_right(tmp_path):
    loss, metrics = the_loss(
        Dpo(label="hard"), [pair("x", "yes", "no", 0.9)], tiny.model(dtype=torch.float64), None, tmp_path
    )
    assert loss.item() == pytest.approx(math.log(2), rel=1e-12)
    assert metrics == {"accuracy": 0.5, "margin": 0.0, "ratio_a": 0.0, "ratio_b": 0.0}


def bradley_terry(margin, p):
    """The loss of a pair with log-odds `margin` and label `p`, and its gradient to the margin."""
    odds = torch.tensor([margin], dtype=torch.float64, requires_grad=True)
    scores, target = (
        torch.stack([odds, torch.zeros_like(odds)], 1),
        torch.tensor([[p, 1 - p]], dtype=torch.float64),
    )
    loss = choice_loss(scores, target, torch.ones(1, 2, dtype=torch.bool)).sum()
    return loss.item(), torch.autograd.grad(loss, odds)[0].item()


@given(margin=st.floats(-1e4, 1e4), p=st.floats(0, 1))
def test_the_preference_loss_is_finite_symmetric_and_cross_entropy(margin, p):
    one, gradient = bradley_terry(margin, p)
    assert one == pytest.approx(bradley_terry(-margin, 1 - p)[0], rel=1e-9, abs=1e-12)
    # log(1 + e^m) - p m, the same cross-entropy written as softplus
    expected = max(margin, 0.0) + math.log1p(math.exp(-abs(margin))) - p * margin
    assert one == pytest.approx(expected, rel=1e-9, abs=1e-11)
    assert math.isfinite(gradient)


def test_the_gradient_vanishes_where_the_odds_equal_the_soft_label():
    assert bradley_terry(math.log(0.8 / 0.2), 0.8)[1] == pytest.approx(0.0, abs=1e-12)


def test_dpo_learns_the_preferred_answers(tmp_path):
    sources = [pair(f"p{at}", "yes " * (1 + at % 3), "no " * (1 + at % 4), 0.9) for at in range(12)]
    objective = Dpo(label="hard")
    data = objective.prepare(sources, TOKENIZER, 128)
    train(objective, tiny.model(), data, TrainSettings(lr=1e-2, epochs=4, batch_size=4), tmp_path)
    logged = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert logged[0]["loss"] == pytest.approx(math.log(2), rel=1e-5)
    assert logged[-1]["accuracy"] == 1.0 and logged[-1]["loss"] < 0.3


def record(*turns):
    made = tuple(Turn(kind=kind, text=text, finish=finish) for kind, text, finish in turns)
    return Record(id="r", prompt_id="p", prompt=(user("hi"),), turns=made)


def texts(sources):
    return [source.messages[-1]["content"] for source in sources]


def test_what_sft_learns_from_a_record():
    rewritten = record(
        ("response", "a", "stop"),
        ("critique", "bad", "stop"),
        ("revision", "b", "stop"),
        ("critique", "fine", "stop"),
        ("revision", "b", "kept"),
        ("critique", "bad", "stop"),
        ("revision", "c", "stop"),
    )
    only = replace(record(("response", "a", "stop")), id="other")
    cut = record(("response", "a", "length"))
    rows = [rewritten, only, cut, record()]
    last, left_out = Sft().sources(rows)
    assert texts(last) == ["c", "a"]
    assert left_out == {"truncated answer": 1, "no answer": 1}
    every, left_out = Sft(learn_from="all").sources(rows, 0.5)
    assert texts(every) == ["b", "c", "a"]
    assert {source.weight for source in every} == {0.5}
    assert len({source.id for source in every}) == 3


def comparison(texts, probabilities, name="c", request="hi"):
    return Comparison(
        id=name,
        prompt_id="p",
        prompt=(user(request),),
        candidates=tuple(Candidate(text=text) for text in texts),
        annotations=(Annotation(annotator="x", probabilities=probabilities),),
        probabilities=probabilities,
    )


def test_what_dpo_learns_from_a_comparison():
    rows = [comparison(("a", "b", "c"), (0.1, 0.6, 0.3)), comparison(("a", "a"), (0.2, 0.8))]
    sources, left_out = Dpo().sources(rows)
    assert [(source.a, source.b) for source in sources] == [("b", "a")]
    assert sources[0].p_a == pytest.approx(0.6 / 0.7)
    assert left_out == {"equal sides": 1}


def test_what_cannot_be_learned_from_is_counted():
    sources = [
        talk("fine", "hi", "yes"),
        talk("blank", "hi", "  "),
        talk("frame", "hi", "no <|im_end|> yes"),
        talk("long", "hi", "x" * 200),
    ]
    data = Sft(too_long="skip").prepare(sources, TOKENIZER, 128)
    assert [row.name for row in data.rows] == ["fine"]
    assert data.dropped == {"empty answer": 1, "control token in the text": 1, "too long": 1}
    pairs = [pair("fine", "a", "b", 0.9), pair("tie", "a", "b", 0.5), pair("empty", "a", "", 0.9)]
    data = Dpo(label="hard").prepare(pairs, TOKENIZER, 128)
    assert data.dropped == {"tie": 1, "empty answer": 1}


def test_sides_that_are_equal_after_tokenising_are_counted():
    # The template drops white space around an answer, so these two are one text to the model.
    tokenizer = tiny.tokenizer(tiny.CHATML.replace("m['content']", "m['content'] | trim"))
    data = Dpo().prepare([pair("same", "a", " a ", 0.9), pair("fine", "a", "b", 0.9)], tokenizer, 128)
    assert data.dropped == {"equal sides after tokenising": 1}


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (
            lambda: Sft().prepare([talk("long", "hi", "x" * 200)], TOKENIZER, 128),
            "row long: 222 tokens are more than the model's context of 128; "
            'shorten it, or set too_long = "skip" to leave such rows out or "truncate-left" to cut prompts',
        ),
        (
            lambda: Sft().prepare([talk("blank", "hi", " ")], TOKENIZER, 128),
            "there is nothing to train on (1 empty answer); give a file with usable rows",
        ),
        (
            lambda: Sft().prepare([], TOKENIZER, 128),
            "there is nothing to train on (the input is empty); give a file with usable rows",
        ),
        (
            lambda: Sft().prepare([talk("heavy", "hi", "k", weight=0.0)], TOKENIZER, 128),
            "row heavy: weight 0.0; give a weight above 0",
        ),
        (
            lambda: Sft().prepare([Conversation(id="short", messages=(user("hi"),))], TOKENIZER, 128),
            "row short: the conversation ends with role 'user'; end it with the assistant's answer",
        ),
        (
            lambda: Dpo().prepare([pair("odd", "a", "b", 1.5)], TOKENIZER, 128),
            "there is nothing to train on (1 label is no probability); give a file with usable rows",
        ),
        (lambda: build(Dpo, {"beta": 0}, "[dpo]"), "[dpo]: 'beta' is 0.0; it must be above 0"),
        (
            lambda: build(Dpo, {"label": "fuzzy"}, "[dpo]"),
            "[dpo]: 'label' is 'fuzzy'; choose one of 'soft', 'hard'",
        ),
        (
            lambda: build(Sft, {"beta": 0.1}, "[sft]"),
            "[sft]: unknown key 'beta'; known: learn_from, too_long, train_on",
        ),
    ],
)
def test_errors(run, message):
    with pytest.raises(CaiError) as caught:
        run()
    assert str(caught.value) == message


def test_the_objectives_are_found_by_name():
    assert find("objectives", "sft") is Sft
    assert find("objectives", "dpo") is Dpo
