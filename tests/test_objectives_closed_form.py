"""A tabular world, where the optimum is known: a policy is a table of logits over whole answers."""

import itertools
from types import SimpleNamespace

import pytest
import torch

from cai.objectives import _choices, reward
from cai.objectives._choices import ChoiceBatch
from cai.objectives.dpo import Dpo
from cai.objectives.dpo_rw import DpoRw
from cai.objectives.exo import Exo
from cai.objectives.exo_rw import ExoRw
from cai.objectives.reward import Reward

ANSWERS = 7
BETA = 0.5


@pytest.fixture(autouse=True)
def tabular(monkeypatch):
    """The "model" is a table of logits; an answer's log-probability is that of its place in the table."""

    def logps(table, batch):
        return table.log_softmax(0)[batch.places], torch.ones(len(batch.places))

    monkeypatch.setattr(_choices, "completion_logps", logps)
    monkeypatch.setattr(reward, "final_scores", lambda table, batch: table[batch.places])


@pytest.fixture
def world():
    """Rewards of the answers, and the logits of the policy that training starts from."""
    generator = torch.Generator().manual_seed(5)
    return torch.randn(2, ANSWERS, generator=generator, dtype=torch.float64).unbind()


def optimum(rewards, start):
    """pi_ref exp(r / beta) / Z (Rafailov et al., equation 4)."""
    return (start.log_softmax(0) + rewards / BETA).softmax(0)


def variation(one, other):
    return 0.5 * (one - other).abs().sum().item()


def batch_of(rows, rewards, start):
    """Every row a tuple of answers; its label is the exact choice among them by reward."""
    places = torch.tensor(rows)
    return ChoiceBatch(
        batch=SimpleNamespace(places=places.flatten(), names=(), tokens=0),
        present=torch.ones_like(places, dtype=torch.bool),
        target=rewards[places].softmax(1),
        reference=start.log_softmax(0)[places],
        weights=torch.ones(len(rows), dtype=torch.float64),
    )


def learn(objective, batch, start):
    """Full-batch gradient steps from `start` to the end."""
    table = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([table], max_iter=400, line_search_fn="strong_wolfe", tolerance_grad=1e-12)

    def closure():
        optimizer.zero_grad()
        total = objective.loss(table, batch).total / len(batch.weights)
        total.backward()
        return total

    optimizer.step(closure)
    return table.detach()


PAIRED = list(itertools.combinations(range(ANSWERS), 2))
IN_FOURS = list(itertools.combinations(range(ANSWERS), 4))


@pytest.mark.parametrize(
    ("objective", "rows"),
    [
        (Dpo(beta=BETA), PAIRED),
        (DpoRw(beta=BETA), IN_FOURS),
        (DpoRw(beta=BETA), [tuple(range(ANSWERS))]),
        (Exo(beta=BETA, label_smoothing=1e-9), PAIRED),
        (ExoRw(beta=BETA, label_smoothing=1e-9), IN_FOURS),
    ],
)
def test_exact_soft_labels_lead_to_the_optimal_policy(world, objective, rows):
    rewards, start = world
    goal = optimum(rewards, start)
    assert variation(start.softmax(0), goal) > 0.3
    learned = learn(objective, batch_of(rows, rewards, start), start)
    # The bar is 0.03.
    assert variation(learned.softmax(0), goal) < 1e-4


def test_hard_labels_lead_past_it(world):
    """What soft labels are for: told only who wins more often, the policy runs to the best answer."""
    rewards, start = world
    batch = batch_of(PAIRED, rewards, start)
    verdicts = (batch.target > 0.5).double()
    hard = ChoiceBatch(**{**vars(batch), "target": verdicts})
    learned = learn(Dpo(beta=BETA), hard, start)
    assert learned.softmax(0).max() > 0.999 > 0.94 > optimum(rewards, start).max()


@pytest.mark.parametrize("rows", [PAIRED, IN_FOURS])
def test_a_reward_model_finds_the_rewards_up_to_a_constant(world, rows):
    rewards, start = world
    found = learn(Reward(), batch_of(rows, rewards, start), torch.zeros_like(start))
    torch.testing.assert_close(found - found.mean(), rewards - rewards.mean(), rtol=0, atol=1e-4)


def test_centring_finds_the_constant(world):
    rewards, start = world
    batch = batch_of(PAIRED, rewards, start)
    found = learn(Reward(centring=1e-3), batch, torch.full_like(start, 5.0))
    assert found.mean().item() == pytest.approx(0.0, abs=1e-3)
    assert (found - found.mean() - rewards + rewards.mean()).abs().max().item() < 0.05
