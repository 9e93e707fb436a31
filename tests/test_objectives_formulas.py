"""Every preference formula against the papers' own at 50 digits; extremes, gradients, symmetries."""

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import exp, log, mp, mpf

from cai.objectives import _choices, reward
from cai.objectives._choices import ChoiceBatch
from cai.objectives._preference import choice_loss, smoothed
from cai.objectives.apo import Apo
from cai.objectives.dpo import Dpo
from cai.objectives.dpo_rw import DpoRw
from cai.objectives.exo import Exo
from cai.objectives.exo_rw import ExoRw
from cai.objectives.hinge import Hinge
from cai.objectives.ipo import Ipo
from cai.objectives.kto import kto_loss
from cai.objectives.nca import Nca
from cai.objectives.orpo import Orpo
from cai.objectives.reward import Reward
from cai.objectives.robust import Robust
from cai.objectives.simpo import Simpo
from cai.objectives.sppo import Sppo

mp.dps = 50


def sigmoid(x):
    return 1 / (1 + exp(-x))


def mean(values):
    return sum(values) / len(values)


# The papers' formulas for one row. `h`: log pi(y) / pi_ref(y) of each answer (for the objectives without a
# reference, its log pi); `n`: its tokens; `q`: the label. Pairs are written for hard labels and averaged over
# the label where the docstring of the objective says so.
def averaged(pair):
    return lambda h, n, q: q[0] * pair(h[0], h[1], n[0], n[1]) + q[1] * pair(h[1], h[0], n[1], n[0])


def dpo(beta, flips=0):
    def loss(h, n, q):
        s = sigmoid(beta * (h[0] - h[1]))
        p = (1 - flips) * q[0] + flips * q[1]
        return -p * log(s) - (1 - p) * log(1 - s)

    return loss


def listwise(beta):
    def loss(h, n, q):
        total = sum(exp(beta * x) for x in h)
        return -sum(w * log(exp(beta * x) / total) for x, w in zip(h, q, strict=True))

    return loss


def exo(beta, least):
    def loss(h, n, q):
        total = sum(exp(beta * x) for x in h)
        chosen = [exp(beta * x) / total for x in h]
        goal = [(1 - len(h) * least) * w + least for w in q]
        return sum(s * (log(s) - log(w)) for s, w in zip(chosen, goal, strict=True))

    return loss


def nca(beta):
    def loss(h, n, q):
        rows = [(sigmoid(beta * x), w) for x, w in zip(h, q, strict=True)]
        return -sum(w * log(s) + log(1 - s) / len(h) for s, w in rows)

    return loss


def robust(beta, flips):
    def loss(a, b, *_):
        s = sigmoid(beta * (a - b))
        return (-(1 - flips) * log(s) + flips * log(1 - s)) / (1 - 2 * flips)

    return averaged(loss)


def orpo(strength):
    def loss(a, b, n, m):
        odds = [exp(x / k) / (1 - exp(x / k)) for x, k in ((a, n), (b, m))]
        return -a / n - strength * log(sigmoid(log(odds[0] / odds[1])))

    return averaged(loss)


def reward_model(margin, centring):
    def loss(h, n, q):
        total = mpf(0)
        for at, (score, weight) in enumerate(zip(h, q, strict=True)):
            others = sum(exp(other) for place, other in enumerate(h) if place != at)
            total -= weight * log(exp(score - margin) / (exp(score - margin) + others))
        return total + centring * mean(h) ** 2

    return loss


PAIRS = {
    "dpo": (Dpo(beta=0.3), dpo(mpf("0.3"))),
    "cdpo": (Dpo(beta=0.3, label_smoothing=0.2), dpo(mpf("0.3"), mpf("0.2"))),
    "dpo per token": (
        Dpo(beta=3.0, per="token"),
        lambda h, n, q: dpo(3)([x / k for x, k in zip(h, n, strict=True)], n, q),
    ),
    "ipo": (Ipo(tau=0.2), averaged(lambda a, b, n, m: (a - b - 1 / (2 * mpf("0.2"))) ** 2)),
    "ipo per token": (
        Ipo(tau=0.2, per="token"),
        averaged(lambda a, b, n, m: (a / n - b / m - 1 / (2 * mpf("0.2"))) ** 2),
    ),
    "hinge": (Hinge(beta=0.3), averaged(lambda a, b, n, m: max(mpf(0), 1 - mpf("0.3") * (a - b)))),
    "robust": (Robust(beta=0.3, flip_rate=0.2), robust(mpf("0.3"), mpf("0.2"))),
    "exo": (Exo(beta=0.3, label_smoothing=0.01), exo(mpf("0.3"), mpf("0.01"))),
    "nca": (Nca(beta=0.3), nca(mpf("0.3"))),
    "sppo": (
        Sppo(beta=0.3),
        lambda h, n, q: sum((x - (w - mpf("0.5")) / mpf("0.3")) ** 2 for x, w in zip(h, q, strict=True)),
    ),
    "apo zero": (
        Apo(beta=0.3),
        averaged(lambda a, b, n, m: sigmoid(mpf("0.3") * b) - sigmoid(mpf("0.3") * a)),
    ),
    "apo down": (
        Apo(beta=0.3, variant="down"),
        averaged(lambda a, b, n, m: sigmoid(mpf("0.3") * a) - sigmoid(mpf("0.3") * (a - b))),
    ),
    "simpo": (
        Simpo(beta=2.0, margin=0.7),
        averaged(lambda a, b, n, m: -log(sigmoid(2 * a / n - 2 * b / m - mpf("0.7")))),
    ),
    "orpo": (Orpo(strength=0.4), orpo(mpf("0.4"))),
    "dpo_rw": (DpoRw(beta=0.3), listwise(mpf("0.3"))),
    "exo_rw": (ExoRw(beta=0.3, label_smoothing=0.01), exo(mpf("0.3"), mpf("0.01"))),
    "reward": (Reward(margin=0.4, centring=0.1), reward_model(mpf("0.4"), mpf("0.1"))),
}
MANY = ("nca", "dpo_rw", "exo_rw", "reward")
FREE = ("simpo", "orpo")  # what they read is log pi, below 0


@pytest.fixture(scope="module", autouse=True)
def given_numbers():
    """Objectives read the numbers of the test's batch in place of a model's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_choices, "completion_logps", lambda model, batch: (batch.values, batch.counts))
        patch.setattr(reward, "final_scores", lambda model, batch: batch.values)
        yield


def batch_of(values, labels, counts=None, dtype=torch.float64):
    """A batch whose rows have these values (lists of K numbers each, K may differ), labels and lengths."""
    width = max(map(len, values))
    present = torch.tensor([[at < len(row) for at in range(width)] for row in values])
    flat = torch.tensor([value for row in values for value in row], dtype=dtype, requires_grad=True)
    lengths = torch.tensor([n for row in counts for n in row]) if counts else torch.ones(len(flat))
    return ChoiceBatch(
        batch=SimpleNamespace(values=flat, counts=lengths, names=("x",), tokens=1),
        present=present,
        target=torch.tensor([[*row, *[0.0] * (width - len(row))] for row in labels], dtype=dtype),
        reference=torch.zeros(len(values), width, dtype=dtype),
        weights=torch.ones(len(values), dtype=dtype),
    )


def loss_of(objective, values, label, counts=None, dtype=torch.float64):
    """Loss of one row, and its gradient to the values."""
    batch = batch_of([values], [label], [counts] if counts else None, dtype)
    total = objective.loss(None, batch).total
    (gradient,) = torch.autograd.grad(total, batch.batch.values)
    return total.item(), gradient


ROWS = [
    ([0.3, -1.7], [1.0, 0.0], [3, 5]),
    ([-4.0, 2.5], [0.7, 0.3], [2, 7]),
    ([31.0, -28.0], [0.9, 0.1], [11, 4]),
    ([-60.0, -61.5], [0.5, 0.5], [40, 23]),
    ([-25.0, 35.0], [0.0, 1.0], [9, 9]),
]
LISTS = [
    ([0.3, -1.7, 2.0], [0.5, 0.3, 0.2], [3, 5, 4]),
    ([-9.0, 4.0, 11.0, -2.0], [0.0, 1.0, 0.0, 0.0], [2, 7, 1, 3]),
    ([5.0, 5.0, 5.0], [0.2, 0.2, 0.6], [1, 2, 3]),
]


@pytest.mark.parametrize("name", PAIRS)
def test_a_formula_is_the_papers(name):
    objective, truth = PAIRS[name]
    for values, label, counts in [*ROWS, *(LISTS if name in MANY else [])]:
        if name in FREE:
            values = [-abs(value) for value in values]
        exact = truth([mpf(x) for x in values], [mpf(n) for n in counts], [mpf(w) for w in label])
        assert loss_of(objective, values, label, counts)[0] == pytest.approx(float(exact), rel=1e-9)


@pytest.mark.parametrize("name", PAIRS)
def test_loss_and_gradient_are_finite_at_extremes(name):
    objective, _ = PAIRS[name]
    for dtype in (torch.float32, torch.float64):
        for a in (-1e4, -90.0, 0.0, 90.0, 1e4):
            for b in (-1e4, 0.0, 1e4):
                for label in ([1.0, 0.0], [0.3, 0.7]):
                    values = [-abs(a), -abs(b)] if name in FREE else [a, b]
                    loss, gradient = loss_of(objective, values, label, [3, 5], dtype)
                    assert math.isfinite(loss) and torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", PAIRS)
def test_the_gradient_is_the_difference_quotient(name):
    objective, _ = PAIRS[name]
    for values, label, counts in [([-0.7, -1.9], [0.8, 0.2], [3, 5]), *(LISTS[:1] if name in MANY else [])]:
        _, gradient = loss_of(objective, values, label, counts)
        for at in range(len(values)):
            ends = []
            for way in (1e-6, -1e-6):
                moved = [value + way * (place == at) for place, value in enumerate(values)]
                ends.append(loss_of(objective, moved, label, counts)[0])
            assert gradient[at].item() == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("name", PAIRS)
@given(a=st.floats(-60, -0.01), b=st.floats(-60, -0.01), p=st.floats(0, 1))
def test_the_order_of_the_two_sides_means_nothing(name, a, b, p):
    objective, _ = PAIRS[name]
    one, _ = loss_of(objective, [a, b], [p, 1 - p], [3, 5])
    other, _ = loss_of(objective, [b, a], [1 - p, p], [5, 3])
    assert one == pytest.approx(other, rel=1e-9, abs=1e-12)


# d = 2 with h = (1, -1); sigmoid(1/2) = 0.6224593312, sigmoid(1) = 0.7310585786.
BY_HAND = [
    (Dpo(beta=0.5), [1, -1], 1.0, 0.3132616875),
    (Dpo(beta=0.5), [1, -1], 0.75, 0.3132616875 + 0.25),
    (Dpo(beta=0.5, label_smoothing=0.25), [1, -1], 1.0, 0.3132616875 + 0.25),
    (Ipo(tau=0.5), [1, -1], 1.0, 1.0),
    (Ipo(tau=0.5), [1, -1], 0.75, 0.75 * 1 + 0.25 * 9),
    (Hinge(beta=0.25), [1, -1], 1.0, 0.5),
    (Hinge(beta=0.25), [1, -1], 0.75, 0.75 * 0.5 + 0.25 * 1.5),
    (Robust(beta=0.5, flip_rate=0.25), [1, -1], 1.0, (0.75 * 0.3132616875 - 0.25 * 1.3132616875) / 0.5),
    (Exo(beta=0.5, label_smoothing=0.25), [1, -1], 1.0, 0.0009413140),
    (Nca(beta=0.5), [1, -1], 1.0, 0.4740769842 + (0.4740769842 + 0.9740769842) / 2),
    (Sppo(beta=0.5), [1, -1], 1.0, 0.0),
    (Sppo(beta=0.5), [1, -1], 0.75, 0.25 + 0.25),
    (Apo(beta=0.5), [1, -1], 1.0, 0.3775406688 - 0.6224593312),
    (Apo(beta=0.5, variant="down"), [1, -1], 1.0, 0.6224593312 - 0.7310585786),
    # mean log-probabilities -1 and -2: 1 * (-1 + 2) - 1/2 = 1/2
    (Simpo(beta=1.0, margin=0.5), [-1, -2], 1.0, 0.4740769842),
    # P = 1/2 and 1/5: odds 1 and 1/4, so sigmoid(log 4) = 4/5
    (Orpo(strength=0.5), [math.log(0.5), math.log(0.2)], 1.0, math.log(2) - 0.5 * math.log(0.8)),
    (DpoRw(beta=0.5), [1, -1], 0.75, 0.3132616875 + 0.25),
    # r = (1, 0), margin 1: log(1 + e^0)
    (Reward(margin=1.0), [1, 0], 1.0, math.log(2)),
    (Reward(centring=0.5), [1, 0], 1.0, 0.3132616875 + 0.5 * 0.25),
]


@pytest.mark.parametrize(("objective", "values", "p", "expected"), BY_HAND)
def test_by_hand(objective, values, p, expected):
    loss, _ = loss_of(objective, [float(value) for value in values], [p, 1 - p])
    assert loss == pytest.approx(expected, abs=1e-9)


def test_a_list_by_hand():
    # Scores 0, log 2, log 5 are chosen with 1/8, 2/8 and 5/8.
    values, label = [0.0, math.log(2), math.log(5)], [0.5, 0.25, 0.25]
    expected = 0.5 * math.log(8) + 0.25 * math.log(4) + 0.25 * math.log(8 / 5)
    assert loss_of(Reward(), values, label)[0] == pytest.approx(expected, rel=1e-12)
    assert loss_of(DpoRw(beta=1.0), values, label)[0] == pytest.approx(expected, rel=1e-12)


def test_rows_of_different_numbers_of_candidates_do_not_touch():
    rows = [ROWS[1], LISTS[0], LISTS[1]]
    for name in MANY:
        objective, _ = PAIRS[name]
        together = objective.loss(None, batch_of([row[0] for row in rows], [row[1] for row in rows]))
        alone = [objective.loss(None, batch_of([row[0]], [row[1]])) for row in rows]
        assert together.total.item() == pytest.approx(sum(loss.total.item() for loss in alone), rel=1e-12)
        for key, value in together.metrics.items():
            assert value == pytest.approx(sum(loss.metrics[key] for loss in alone), rel=1e-12)


@given(a=st.floats(-1e3, 1e3), b=st.floats(-1e3, 1e3), p=st.floats(0, 1))
def test_with_two_candidates_the_list_objectives_are_the_pairs_to_the_bit(a, b, p):
    for pair, many in ((Dpo(), DpoRw()), (Exo(), ExoRw())):
        for label in ([p, 1 - p], [1.0, 0.0]):
            one, other = (loss_of(objective, [a, b], label) for objective in (pair, many))
            assert one[0] == other[0] and torch.equal(one[1], other[1])


@given(gap=st.floats(-100, 100), p=st.floats(0, 1), flips=st.floats(0.01, 0.49))
def test_smoothing_is_a_shifted_label_and_robust_undoes_it(gap, p, flips):
    shifted = p + (1 - 2 * p) * flips
    conservative = loss_of(Dpo(label_smoothing=flips), [gap, 0.0], [p, 1 - p])[0]
    plain = loss_of(Dpo(), [gap, 0.0], [shifted, 1 - shifted])[0]
    assert conservative == pytest.approx(plain, rel=1e-9, abs=1e-12)
    undone = loss_of(Robust(flip_rate=flips), [gap, 0.0], [shifted, 1 - shifted])[0]
    assert undone == pytest.approx(loss_of(Dpo(), [gap, 0.0], [p, 1 - p])[0], rel=1e-6, abs=1e-6)


def test_smoothing_gives_every_candidate_the_least_and_who_is_not_there_nothing():
    target = torch.tensor([[1.0, 0.0, 0.0], [0.75, 0.25, 0.0]], dtype=torch.float64)
    present = torch.tensor([[True, True, True], [True, True, False]])
    expected = torch.tensor([[0.8, 0.1, 0.1], [0.7, 0.3, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(smoothed(target, present, 0.1), expected, rtol=1e-12, atol=1e-15)


def test_a_sure_choice_keeps_its_digits():
    scores, target = torch.tensor([[700.0, 0.0]], dtype=torch.float64), torch.tensor([[1.0, 0.0]])
    loss = choice_loss(scores, target, torch.ones(1, 2, dtype=torch.bool)).item()
    assert loss == pytest.approx(float(exp(mpf(-700))), rel=1e-12)


@pytest.mark.parametrize(("p", "divergence"), [(1.0, 0.0), (0.0, 0.4), (0.7, 0.25)])
def test_kto_is_the_papers(p, divergence):
    ratios = torch.tensor([-3.0, 0.2, 40.0], dtype=torch.float64)
    found = kto_loss(ratios, torch.full((3,), p, dtype=torch.float64), divergence, 1.5, 0.5)
    for ratio, value in zip(ratios.tolist(), found.tolist(), strict=True):
        learn = mpf(1.5) - mpf(1.5) * sigmoid(mpf(ratio) - mpf(divergence))
        unlearn = mpf(0.5) - mpf(0.5) * sigmoid(mpf(divergence) - mpf(ratio))
        assert value == pytest.approx(float(mpf(p) * learn + (1 - mpf(p)) * unlearn), rel=1e-9)


@pytest.mark.parametrize("size", [-1e4, 1e4])
def test_kto_is_finite_at_extremes(size):
    ratios = torch.tensor([size], requires_grad=True)
    loss = kto_loss(ratios, torch.tensor([0.5]), 0.0, 1.0, 1.0).sum()
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(ratios.grad).all()


def test_metrics_by_hand():
    """Accuracy counts pairs of candidates: the scores have 2 of 3 in the label's order."""
    batch = batch_of([[1.0, -1.0, 0.0]], [[0.6, 0.3, 0.1]])
    metrics = DpoRw(beta=0.5).loss(None, batch).metrics
    assert metrics == pytest.approx({"accuracy": 2 / 3, "margin": 0.75, "ratio_a": 1.0, "ratio_b": -0.5})
