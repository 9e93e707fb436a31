"""GAE, whitening, clipped losses, KL estimates and their controller: by hand and against plain loops."""

import math
import statistics

import bandits
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cai.objectives._advantage import (
    explained_variance,
    gae,
    group_advantages,
    leave_one_out,
    token_rewards,
    whiten,
)
from cai.objectives._surrogate import adapted, divergence, is_clipped, policy_loss, value_loss

CLOSE = {"rtol": 1e-9, "atol": 1e-12}


def f64(*values):
    return torch.tensor(values, dtype=torch.float64)


def ragged(draw_list):
    """Lists of different lengths as padded numbers, and the mask."""
    longest = max(map(len, draw_list))
    padded = [row + [123.0] * (longest - len(row)) for row in draw_list]
    mask = [[1] * len(row) + [0] * (longest - len(row)) for row in draw_list]
    return f64(*padded), torch.tensor(mask)


numbers = st.floats(-50, 50)
rows = st.lists(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=7), min_size=1, max_size=4)


def test_gae_by_hand():
    rewards, values = f64([1.0, 0.0, 2.0]), f64([0.5, 1.0, -1.0])
    # delta_2 = 2 + 1 = 3; delta_1 = 0 - 0.9 - 1 = -1.9; delta_0 = 1 + 0.9 - 0.5 = 1.4; gamma lam = 0.72
    expected = f64([1.4 + 0.72 * (-1.9 + 0.72 * 3), -1.9 + 0.72 * 3, 3.0])
    torch.testing.assert_close(gae(rewards, values, torch.ones(1, 3), 0.9, 0.8), expected, **CLOSE)


@given(rows=rows, gamma=st.floats(0, 1), lam=st.floats(0, 1))
def test_gae_is_the_exponentially_weighted_sum_of_errors(rows, gamma, lam):
    """Equation 16 as the sum that it stands for, an answer at a time."""
    rewards, mask = ragged([[reward for reward, _ in row] for row in rows])
    values, _ = ragged([[value for _, value in row] for row in rows])
    found = gae(rewards, values, mask, gamma, lam)
    for at, row in enumerate(rows):
        ahead = [*[value for _, value in row][1:], 0.0]
        deltas = [r + gamma * after - v for (r, v), after in zip(row, ahead, strict=True)]
        for t in range(len(row)):
            expected = sum((gamma * lam) ** k * delta for k, delta in enumerate(deltas[t:]))
            assert found[at, t].item() == pytest.approx(expected, rel=1e-9, abs=1e-9)
        assert (found[at, len(row) :] == 0).all()


def test_with_lambda_1_advantage_and_value_are_the_return():
    rewards, values = f64([1.0, -2.0, 4.0]), f64([7.0, 8.0, 9.0])
    returns = gae(rewards, values, torch.ones(1, 3), 1.0, 1.0) + values
    torch.testing.assert_close(returns, f64([3.0, 2.0, 4.0]), **CLOSE)


def test_the_score_stands_on_the_last_real_token():
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    kl = f64([0.1, 0.2, 0.3], [0.4, 99.0, 99.0])
    found = token_rewards(f64(5.0, -1.0), kl, mask, 0.5)
    torch.testing.assert_close(found, f64([-0.05, -0.1, 4.85], [-1.2, 0.0, 0.0]), **CLOSE)


@given(rows=rows, keep=st.booleans())
def test_whitening_is_over_all_real_tokens(rows, keep):
    values, mask = ragged([[value for value, _ in row] for row in rows])
    real = [value for row in rows for value, _ in row]
    mean = math.fsum(real) / len(real)
    spread = statistics.variance(real) if len(real) > 1 else 1 - 1e-8
    found = whiten(values, mask, keep_mean=keep)
    expected = [(value - mean) / math.sqrt(spread + 1e-8) + mean * keep for value in real]
    assert found[mask.bool()].tolist() == pytest.approx(expected, rel=1e-9, abs=1e-7)
    assert (found[~mask.bool()] == 0).all()


def test_explained_variance():
    values, returns = f64([1.0, 2.0, 3.0]), f64([1.0, 3.0, 2.0])
    # var(returns) = 2/3, var(0, 1, -1) = 2/3
    assert explained_variance(values, returns, torch.ones(1, 3)) == pytest.approx(0.0)
    assert explained_variance(returns, returns, torch.ones(1, 3)) == 1.0
    assert explained_variance(values, f64([2.0, 2.0, 2.0]), torch.ones(1, 3)) == 0.0


def test_group_advantages_by_hand():
    scores = f64([1.0, 2.0, 6.0], [4.0, 4.0, 4.0])
    # mean 3, squares 4 + 1 + 9 = 14, deviation sqrt(7)
    scaled = [[each / (math.sqrt(7) + 1e-8) for each in (-2.0, -1.0, 3.0)], [0.0, 0.0, 0.0]]
    torch.testing.assert_close(group_advantages(scores, True), f64(*scaled), **CLOSE)
    torch.testing.assert_close(
        group_advantages(scores, False), f64([-2.0, -1.0, 3.0], [0.0, 0.0, 0.0]), **CLOSE
    )
    torch.testing.assert_close(leave_one_out(scores), f64([-3.0, -1.5, 4.5], [0.0, 0.0, 0.0]), **CLOSE)


@given(value=st.floats(-1e6, 1e6), count=st.integers(2, 9), scale=st.booleans())
def test_equal_scores_teach_nothing(value, count, scale):
    assert (group_advantages(torch.full((1, count), value), scale) == 0).all()


@given(scores=st.lists(numbers, min_size=2, max_size=9))
def test_leave_one_out_is_a_loop_and_a_multiple_of_the_mean_baseline(scores):
    found = leave_one_out(f64(scores))[0].tolist()
    for at, score in enumerate(scores):
        others = scores[:at] + scores[at + 1 :]
        assert found[at] == pytest.approx(score - math.fsum(others) / len(others), rel=1e-9, abs=1e-9)
    factor = len(scores) / (len(scores) - 1)
    centred = (factor * group_advantages(f64(scores), False))[0].tolist()
    assert found == pytest.approx(centred, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "cut"),
    [
        (1.0, 2.0, -2.0, False),
        (1.1, 2.0, -2.2, False),
        (1.5, 2.0, -2.4, True),  # 1.2 * 2
        (0.5, 2.0, -1.0, False),  # it may rise back
        (0.5, -2.0, 1.6, True),  # 0.8 * -2
        (1.5, -2.0, 3.0, False),
    ],
)
def test_the_clipped_surrogate_by_hand(ratio, advantage, loss, cut):
    logps = f64(math.log(ratio) - 1.0).requires_grad_()
    old, advantages = f64(-1.0), f64(advantage)
    found = policy_loss(logps, old, advantages, 0.2)
    assert found.item() == pytest.approx(loss, rel=1e-9)
    assert is_clipped(logps, old, advantages, 0.2).item() is cut
    [gradient] = torch.autograd.grad(found.sum(), logps)
    assert gradient.item() == pytest.approx(0.0 if cut else -ratio * advantage, rel=1e-9)


def test_the_upper_bound_may_differ():
    old, logps = f64(0.0), f64(math.log(1.25))
    assert policy_loss(logps, old, f64(1.0), 0.2, 0.28).item() == pytest.approx(-1.25)
    assert policy_loss(logps, old, f64(1.0), 0.2).item() == pytest.approx(-1.2)


@pytest.mark.parametrize(
    ("value", "returned", "loss"),
    [
        (1.1, 3.0, 1.805),  # (1.1 - 3)^2 / 2, within the clip
        (1.5, 3.0, 1.62),  # clipped to 1.2: (1.2 - 3)^2 / 2 is the larger
        (1.5, 0.0, 1.125),  # 1.5^2 / 2 is the larger
    ],
)
def test_the_clipped_value_loss_by_hand(value, returned, loss):
    found = value_loss(f64(value), f64(1.0), f64(returned), 0.2)
    assert found.item() == pytest.approx(loss, rel=1e-9)


@given(logps=st.floats(-40, 0), reference=st.floats(-40, 0))
def test_divergence_estimates(logps, reference):
    d = logps - reference
    got = {name: divergence(f64(logps), f64(reference), name).item() for name in ("k1", "k2", "k3")}
    assert got["k1"] == pytest.approx(d, rel=1e-9, abs=1e-12)
    assert got["k2"] == pytest.approx(d * d / 2, rel=1e-9, abs=1e-12)
    if d > -20:
        assert got["k3"] == pytest.approx(math.expm1(-d) + d, rel=1e-9, abs=1e-12)
    assert got["k3"] >= -1e-12 or d < -20


def test_the_estimates_and_their_gradients_have_the_expectations_they_are_said_to_have():
    torch.manual_seed(0)
    logits = torch.randn(5, dtype=torch.float64, requires_grad=True)
    reference = torch.randn(5, dtype=torch.float64).log_softmax(-1)
    logps = logits.log_softmax(-1)
    p = logps.exp()
    forward, reverse = (p * (logps - reference)).sum(), (reference.exp() * (reference - logps)).sum()
    for name in ("k1", "k3"):
        mean = (p.detach() * divergence(logps, reference, name)).sum()
        assert mean.item() == pytest.approx(forward.item(), rel=1e-9)
    for name, truth in (("k2", forward), ("k3", reverse)):
        # Sampled tokens: the probability they are weighed with has no gradient.
        estimated = (p.detach() * divergence(logps, reference, name)).sum()
        [found] = torch.autograd.grad(estimated, logits, retain_graph=True)
        [expected] = torch.autograd.grad(truth, logits, retain_graph=True)
        torch.testing.assert_close(found, expected, **CLOSE)


def test_extremes_are_finite():
    logps, old = torch.tensor([0.0, -1e4]), torch.tensor([-1e4, 0.0])
    for advantage in (1e4, -1e4):
        assert torch.isfinite(policy_loss(logps, old, torch.tensor([advantage] * 2), 0.2)).all()
    for name in ("k1", "k2", "k3"):
        assert torch.isfinite(divergence(logps, old, name)).all()
    assert torch.isfinite(
        value_loss(torch.tensor([1e6]), torch.tensor([0.0]), torch.tensor([-1e6]), 0.2)
    ).all()


def test_the_kl_coefficient_follows_its_target():
    assert adapted(0.1, 6.0, 6.0, 10_000, 256) == 0.1
    # the error of +1 is cut to 0.2
    assert adapted(0.1, 12.0, 6.0, 10_000, 256) == pytest.approx(0.1 * (1 + 0.2 * 0.0256))
    assert adapted(0.1, 5.4, 6.0, 10_000, 256) == pytest.approx(0.1 * (1 - 0.1 * 0.0256))
    assert adapted(0.1, 0.0, 6.0, 10_000, 256) == pytest.approx(0.1 * (1 - 0.2 * 0.0256))


def test_in_expectation_the_losses_lead_to_their_closed_forms():
    """Every answer weighed by its probability in place of samples, so the optimum is met without noise."""
    reference = torch.tensor(bandits.START, dtype=torch.float64).log_softmax(-1)
    scores = f64(*bandits.REWARDS.values())

    def ppo(logps, old):
        rewards = scores - 0.5 * divergence(old, reference, "k1")
        return policy_loss(logps, old, rewards - (old.exp() * rewards).sum(), 0.2)

    def grpo(kl):
        def loss(logps, old):
            surrogate = policy_loss(logps, old, scores - (old.exp() * scores).sum(), 0.2)
            return surrogate + 0.5 * divergence(logps, reference, kl)

        return loss

    for loss, optimum in ((ppo, bandits.tilted), (grpo("k2"), bandits.tilted), (grpo("k3"), bandits.leaned)):
        logits = torch.tensor(bandits.START, dtype=torch.float64, requires_grad=True)
        for _ in range(1500):
            logps = logits.log_softmax(-1)
            old = logps.detach()
            [gradient] = torch.autograd.grad((old.exp() * loss(logps, old)).sum(), logits)
            with torch.no_grad():
                logits -= gradient
        assert bandits.distance(logits.detach().softmax(-1), optimum(0.5)) < 1e-6
