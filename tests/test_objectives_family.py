"""The preference objectives on a real tiny model: what of it they read, and what they make of rows."""

import json
import math

import pytest
import tiny
import torch
from test_objectives import ONE_STEP, TOKENIZER, comparison, logps, pair, the_loss

from cai.config import build
from cai.errors import CaiError
from cai.objectives.apo import Apo
from cai.objectives.dpo import Dpo
from cai.objectives.dpo_rw import DpoRw
from cai.objectives.exo import Exo
from cai.objectives.exo_rw import ExoRw
from cai.objectives.hinge import Hinge
from cai.objectives.ipo import Ipo
from cai.objectives.kto import Kto, kto_loss
from cai.objectives.nca import Nca
from cai.objectives.orpo import Orpo
from cai.objectives.reward import Reward
from cai.objectives.robust import Robust
from cai.objectives.sft import Sft
from cai.objectives.simpo import Simpo
from cai.objectives.sppo import Sppo
from cai.plugins import find, names
from cai.records import assistant, user
from cai.training.data import Choice, Conversation, Judged
from cai.training.distributed import ALONE
from cai.training.loop import accumulate, train
from cai.training.settings import TrainSettings

FAMILY = {
    "apo": Apo,
    "dpo": Dpo,
    "dpo_rw": DpoRw,
    "exo": Exo,
    "exo_rw": ExoRw,
    "hinge": Hinge,
    "ipo": Ipo,
    "kto": Kto,
    "nca": Nca,
    "orpo": Orpo,
    "robust": Robust,
    "simpo": Simpo,
    "sppo": Sppo,
}
LISTED = ("dpo_rw", "exo_rw", "nca")


def choice(name, answers, probabilities, weight=1.0):
    return Choice(id=name, prompt=(user("hi"),), answers=answers, probabilities=probabilities, weight=weight)


def comparisons(count):
    """Comparisons of several prompts whose better answer says yes."""
    return [
        comparison(
            ("yes" * (1 + at % 3), "no" * (1 + at % 4)), (0.9, 0.1), name=f"c{at}", request=f"say {at % 5}"
        )
        for at in range(count)
    ]


def prepared(objective, rows, model, folder):
    sources, _ = objective.sources(rows)
    return objective.setup(model, objective.prepare(sources, TOKENIZER, 128), folder, ALONE)


def test_the_family_is_found_by_name():
    for name, cls in {**FAMILY, "reward": Reward}.items():
        assert find("objectives", name) is cls and name in names("objectives")


@pytest.mark.parametrize("per", ["answer", "token"])
def test_what_is_summed_and_what_is_averaged(tmp_path, per):
    model, start = tiny.model(1, torch.float64), tiny.model(0, torch.float64)
    a, b = (logps(model, "hi", text) - logps(start, "hi", text) for text in ("yes", "never mind"))
    gap = a.sum() - b.sum() if per == "answer" else a.mean() - b.mean()
    expected = 0.7 * (gap - 1 / 0.4) ** 2 + 0.3 * (gap + 1 / 0.4) ** 2
    loss, metrics = the_loss(
        Ipo(tau=0.2, per=per), [pair("x", "yes", "never mind", 0.7)], model, start, tmp_path
    )
    assert loss.item() == pytest.approx(expected.item(), rel=1e-9)
    assert metrics["margin"] == pytest.approx(gap.item(), rel=1e-9)


def test_simpo_and_orpo_read_no_reference(tmp_path):
    model = tiny.model(1, torch.float64)
    a, b = (logps(model, "hi", text).mean().item() for text in ("yes", "never mind"))
    odds = [math.exp(value) / (1 - math.exp(value)) for value in (a, b)]
    gap = 2 * (a - b) - 1
    for objective, expected in (
        (Simpo(), math.log1p(math.exp(-gap))),
        (Orpo(), -a - 0.1 * math.log(odds[0] / (odds[0] + odds[1]))),
    ):
        loss, metrics = the_loss(objective, [pair("x", "yes", "never mind", 1.0)], model, None, tmp_path)
        assert loss.item() == pytest.approx(expected, rel=1e-9)
        assert (metrics["logp_a"], metrics["logp_b"]) == pytest.approx((a, b), rel=1e-9)
    assert not list(tmp_path.iterdir())


def test_the_candidates_of_a_row_are_one_choice(tmp_path):
    model, start = tiny.model(1, torch.float64), tiny.model(0, torch.float64)
    sources = [
        choice("three", ("yes", "no", "k"), (0.5, 0.3, 0.2)),
        choice("two", ("maybe", "never mind"), (0.6, 0.4), weight=3.0),
    ]
    expected = 0.0
    for source in sources:
        scores = [
            0.1 * (logps(model, "hi", text) - logps(start, "hi", text)).sum() for text in source.answers
        ]
        chosen = torch.stack(scores).log_softmax(0)
        expected -= source.weight * (torch.tensor(source.probabilities, dtype=torch.float64) * chosen).sum()
    loss, _ = the_loss(DpoRw(), sources, model, start, tmp_path)
    assert loss.item() == pytest.approx(expected.item() / 4, rel=1e-9)


def judged(name, request, answer, p, weight=1.0):
    return Judged(id=name, prompt=(user(request),), answer=answer, p=p, weight=weight)


@pytest.mark.parametrize(("seed", "above"), [(1, False), (0, True)])
def test_kto_measures_its_divergence_on_the_next_prompts_answers(tmp_path, seed, above):
    model, start = tiny.model(seed, torch.float64), tiny.model(1 - seed, torch.float64)
    sources = [
        judged("one", "hi", "yes", 0.9),
        judged("two", "hi", "no", 0.2, weight=2.0),
        judged("three", "go on", "k", 1.0),
    ]

    def ratio(request, answer):
        return (logps(model, request, answer) - logps(start, request, answer)).sum().item()

    mismatched = [ratio("hi", "k"), ratio("hi", "k"), ratio("go on", "yes")]
    divergence = max(0.0, sum(mismatched) / 3)
    assert (divergence > 0) == above
    ratios = [0.1 * ratio(source.prompt[0]["content"], source.answer) for source in sources]
    labels = torch.tensor([source.p for source in sources], dtype=torch.float64)
    each = kto_loss(torch.tensor(ratios, dtype=torch.float64), labels, 0.1 * divergence, 1.0, 1.0)
    data = Kto().prepare(sources, TOKENIZER, 128)
    data = Kto().setup(start, data, tmp_path, ALONE)
    for settings in (ONE_STEP, TrainSettings(lr=1e-2, steps=1, batch_size=1, accumulate=3)):
        (step,) = Kto().batches(model, data, settings, ALONE, 0)
        losses = [Kto().loss(model, micro) for micro in step.micros]
        total = sum(loss.total for loss in losses).item()
        assert total == pytest.approx((each[0] + 2 * each[1] + each[2]).item(), rel=1e-9)
        measured = sum(loss.metrics["divergence"] for loss in losses) / step.weight
        assert measured == pytest.approx(divergence, rel=1e-9)


def test_kto_needs_two_prompts():
    with pytest.raises(CaiError) as caught:
        Kto().prepare([judged("x", "hi", "yes", 1.0), judged("y", "hi", "no", 0.0)], TOKENIZER, 128)
    assert str(caught.value) == (
        "row x: no other prompt's answer fits after this prompt, and kto measures its divergence on them; "
        "give rows of several prompts, or use dpo"
    )


@pytest.mark.parametrize("name", FAMILY)
def test_accumulation_leaves_the_gradient_as_it_is(tmp_path, name):
    gradients = []
    for settings in (
        TrainSettings(epochs=1, batch_size=24),
        TrainSettings(epochs=1, batch_size=1, accumulate=24),
    ):
        model, objective = tiny.model(1, torch.float64), FAMILY[name]()
        data = prepared(objective, comparisons(6), tiny.model(0, torch.float64), tmp_path)
        (step,) = objective.batches(model, data, settings, ALONE, 0)
        accumulate(objective, model, step)
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    # transformers computes its norms in float32 whatever the model's dtype.
    assert (gradients[1] - gradients[0]).abs().max() < 1e-6 * gradients[0].abs().max()


@pytest.mark.parametrize("name", FAMILY)
def test_the_family_learns_the_preferred_answers(tmp_path, name):
    objective, model = FAMILY[name](), tiny.model()
    sources, _ = objective.sources(comparisons(12))
    data = objective.prepare(sources, TOKENIZER, 128)
    train(objective, model, data, TrainSettings(lr=3e-3, epochs=10, batch_size=24), tmp_path)
    logged = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    # KTO weighs an answer against other prompts' answers, and here all prompts have like answers.
    assert logged[-1]["accuracy"] >= (0.75 if name == "kto" else 1.0)
    assert logged[-1]["margin"] > logged[0]["margin"] and logged[-1]["loss"] < logged[0]["loss"]


def test_what_is_learned_from_many_candidates():
    rows = [comparison(("a", "b", "c"), (0.1, 0.6, 0.3)), comparison(("a", "a"), (0.2, 0.8))]
    for name in LISTED:
        (source,), left_out = FAMILY[name]().sources(rows)
        assert (source.answers, source.probabilities) == (("b", "c", "a"), (0.6, 0.3, 0.1))
        assert left_out == {"equal sides": 1}
    (source,), _ = DpoRw().sources(rows)
    (row,) = DpoRw(label="hard").prepare([source], TOKENIZER, 128).rows
    assert row.target == (1.0, 0.0, 0.0)


def test_what_kto_learns_from_a_comparison():
    sources, left_out = Kto().sources([comparison(("a", "b", "c"), (0.1, 0.6, 0.3))], 0.5)
    assert [(source.id, source.answer, source.weight) for source in sources] == [
        ("c.a", "b", 0.5),
        ("c.b", "a", 0.5),
    ]
    assert [source.p for source in sources] == pytest.approx([0.6 / 0.7, 0.1 / 0.7])
    assert left_out == {}


def test_what_cannot_be_learned_from_is_counted():
    sources = [
        choice("fine", ("a", "b", "c"), (0.5, 0.3, 0.2)),
        choice("tie", ("a", "b", "c"), (0.4, 0.4, 0.2)),
        choice("odd", ("a", "b", "c"), (0.5, 0.5, 0.5)),
        choice("empty", ("a", " ", "c"), (0.5, 0.3, 0.2)),
        choice("same", ("a", "a", "a"), (0.5, 0.3, 0.2)),
        choice("frame", ("a", "<|im_end|>", "c"), (0.5, 0.3, 0.2)),
    ]
    data = Nca(label="hard").prepare(sources, TOKENIZER, 128)
    assert [row.name for row in data.rows] == ["fine"]
    assert data.dropped == {
        "tie": 1,
        "label is no probability": 1,
        "empty answer": 1,
        "equal sides after tokenising": 1,
        "control token in the text": 1,
    }


def test_a_prompt_is_cut_on_the_left_for_all_its_answers_alike():
    long = [Choice(id="x", prompt=(user("h" * 40),), answers=("yes", "no" * 5), probabilities=(0.9, 0.1))]
    (whole,) = Reward().prepare(long, TOKENIZER, 128).rows
    data = Reward(too_long="truncate-left").prepare(long, TOKENIZER, 48)
    (row,) = data.rows
    over = max(len(answer.ids) for answer in whole.answers) - 48
    assert over > 0 and data.truncated == 1 and data.dropped == {}
    for answer, full in zip(row.answers, whole.answers, strict=True):
        assert (answer.ids, answer.mask) == (full.ids[over:], full.mask[over:])
    assert Reward(too_long="truncate-left").prepare(long, TOKENIZER, 128).truncated == 0


def test_a_bos_survives_the_cut():
    tokenizer = tiny.tokenizer(tiny.LLAMA)
    talk = Conversation(id="x", messages=(user("h" * 40), assistant("yes")))
    (whole,) = Sft().prepare([talk], tokenizer, 128).rows
    (row,) = Sft(too_long="truncate-left").prepare([talk], tokenizer, 32).rows
    over = len(whole.example.ids) - 32
    assert row.example.ids == (whole.example.ids[0], *whole.example.ids[1 + over :])
    assert row.example.ids[0] == tokenizer.bos_token_id


def test_an_answer_beyond_the_context_cannot_be_helped_by_cutting():
    with pytest.raises(CaiError) as caught:
        Dpo(too_long="truncate-left").prepare([pair("x", "yes", "no" * 60, 0.9)], TOKENIZER, 100)
    assert str(caught.value) == (
        "row x: 142 tokens are more than the model's context of 100, "
        "and no more than 20 of its prompt can be cut; "
        'shorten its answer, or set too_long = "skip"'
    )


@pytest.mark.parametrize(
    ("kind", "table", "message"),
    [
        ("dpo", {"label_smoothing": 0.5}, "'label_smoothing' is 0.5; it must be at least 0 and below 0.5"),
        ("exo", {"label_smoothing": 0.0}, "'label_smoothing' is 0.0; it must be above 0 and below 0.5"),
        ("robust", {"flip_rate": 0.7}, "'flip_rate' is 0.7; it must be above 0 and below 0.5"),
        ("simpo", {"margin": -1.0}, "'margin' is -1.0; it must be 0 or above, and finite"),
        ("reward", {"centring": float("inf")}, "'centring' is inf; it must be 0 or above, and finite"),
        ("ipo", {"beta": 0.1}, "unknown key 'beta'; known: label, per, tau, too_long"),
        ("hinge", {"per": "token"}, "unknown key 'per'; known: beta, label, too_long"),
        ("orpo", {"beta": 0.1}, "unknown key 'beta'; known: label, strength, too_long"),
        ("apo", {"variant": "up"}, "'variant' is 'up'; choose one of 'zero', 'down'"),
    ],
)
def test_keys_that_an_objective_does_not_use_are_errors(kind, table, message):
    with pytest.raises(CaiError) as caught:
        build(find("objectives", kind), table, "here")
    assert str(caught.value) == f"here: {message}"
