"""A value head over the policy's backbone: one pass, the numbers of PPO with it, its optimum, its errors."""

from dataclasses import replace
from types import SimpleNamespace

import bandits
import pytest
import tiny
import torch
from bandits import IDS, NEVER, TOKENIZER, reward_file
from test_batches import SHARING
from test_ppo import SETTINGS, Stop, ppo, prepared, same, stop_after, truth, weights
from torch.nn import functional

from cai.config import build
from cai.errors import CaiError
from cai.objectives._passes import heated
from cai.objectives._rollout import newest
from cai.objectives.ppo import Ppo
from cai.training import forward
from cai.training.batches import collate, scored_states
from cai.training.distributed import ALONE
from cai.training.loop import accumulate, train
from cai.training.settings import TrainSettings
from cai.training.value import PolicyAndValue


def both(shared=True, dtype=torch.float64, seed=0):
    """With a value head that is not zero."""
    model = PolicyAndValue(tiny.model(seed, dtype), shared=shared)
    torch.manual_seed(seed)
    torch.nn.init.normal_(model.head.weight, std=0.3)
    return model


def passed(model, batch):
    seen = heated(model.policy, batch, 0.7, entropy=True)
    return seen, model.values(batch, seen.states)


def test_a_shared_backbone_is_passed_once_and_gives_what_two_passes_do():
    shared, own = both(), both(shared=False)
    batch = collate(SHARING, list("abcdef"))
    seen, values = passed(shared, batch)
    expected = passed(own, batch)
    torch.testing.assert_close(seen.logps, expected[0].logps, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(values, expected[1], rtol=1e-12, atol=1e-12)
    by_hand = scored_states(own.policy.model, batch) @ own.head.weight[0] + own.head.bias
    torch.testing.assert_close(values, by_hand, rtol=1e-12, atol=1e-12)
    logits = forward.logits(own.policy, batch.sequences, batch.scored) / 0.7
    by_hand = -functional.cross_entropy(logits, batch.targets, reduction="none")
    torch.testing.assert_close(seen.logps, by_hand, rtol=1e-12, atol=1e-12)
    calls = []
    shared.policy.model.layers[0].register_forward_hook(lambda *_: calls.append(1))
    passed(shared, batch)
    assert len(calls) == 1


def test_a_shared_backbone_takes_half_the_memory():
    counts = [sum(each.numel() for each in both(shared).parameters()) for shared in (True, False)]
    policy = sum(each.numel() for each in tiny.model().parameters())
    assert counts == [policy + 17, 2 * policy + 17]


def test_the_value_loss_teaches_a_shared_backbone():
    shared, own = both(), both(shared=False)
    for model in (shared, own):
        passed(model, collate(SHARING, list("abcdef")))[1].sum().backward()
    moved = [model.policy.model.layers[0].mlp.up_proj.weight.grad for model in (shared, own)]
    assert moved[1] is None
    torch.testing.assert_close(moved[0], own.backbone.layers[0].mlp.up_proj.weight.grad)


def test_a_rollout_and_its_loss_equal_a_computation_of_our_own(tmp_path):
    objective = ppo(tmp_path, value_coef=0.5, missing_end=0.4, value="shared")
    model, start = both(seed=1), tiny.model(0, torch.float64)
    data = objective.setup(both(), prepared(objective), tmp_path, ALONE)
    step = next(objective.batches(model, data, replace(SETTINGS, batch_size=16, accumulate=1), ALONE, 0))
    rollout = newest(tmp_path, 1)
    whole = SimpleNamespace(policy=model.policy, backbone=model.policy.model, head=model.head)
    expected = truth(objective, whole, start, rollout)
    for one, columns in zip(rollout.experiences, expected, strict=True):
        for name, column in columns.items():
            assert one.columns[name].tolist() == pytest.approx(column, rel=1e-9, abs=1e-9), name
    tokens = [
        -advantage + 0.5 * (value - ret) ** 2 / 2
        for columns in expected
        for advantage, value, ret in zip(
            columns["advantages"], columns["values"], columns["returns"], strict=True
        )
    ]
    [loss] = accumulate(objective, model, step)
    assert loss.total.item() == pytest.approx(sum(tokens), rel=1e-9)


def test_a_broken_run_ends_as_an_unbroken_one(tmp_path):
    objective = ppo(tmp_path, value="shared")

    def run(folder, report=None):
        model = both(dtype=torch.float32)
        train(objective, model, prepared(objective), SETTINGS, tmp_path / folder, report=report)
        return weights(model)

    with pytest.raises(Stop):
        run("broken", stop_after(7))
    assert same(run("broken"), run("whole"))


class Scatter(torch.nn.Module):
    """A head that puts each answer's number at its token."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        empty = torch.full((*hidden.shape[:-1], 262), NEVER, dtype=torch.float64)
        return empty.index_copy(-1, torch.tensor(IDS), hidden)


class Stated(bandits.Table):
    """A table whose states are its logits, so that a value can be read from them."""

    def __init__(self) -> None:
        super().__init__()
        self.head = Scatter()
        text = SimpleNamespace(max_position_embeddings=64, vocab_size=262, hidden_size=len(IDS))
        self.config = SimpleNamespace(_attn_implementation="eager", get_text_config=lambda: text)

    def forward(self, input_ids, past_key_values=None, use_cache=False):
        logits = self.head(self.table.expand(*input_ids.shape, len(IDS)))
        return SimpleNamespace(logits=logits, past_key_values=None)


@pytest.mark.slow
def test_a_bandit_reaches_the_closed_form(tmp_path):
    torch.manual_seed(0)
    settings = TrainSettings(
        lr=0.1, steps=160, batch_size=128, schedule="linear", warmup=0.0, checkpoint_every=1000
    )
    fields = {"rollout": 128, "max_tokens": 1, "reuse": 2, "kl_coef": 0.5, "missing_end": 0.0}
    fields |= {"normalise": False, "value": "shared"}
    objective = build(Ppo, {"reward": reward_file(tmp_path), **fields}, "[ppo]")
    sources, _ = objective.sources(bandits.prompts(1))
    data = objective.prepare(sources, TOKENIZER, 64)
    policy = Stated()
    model = PolicyAndValue(policy, shared=True)
    train(objective, model, data, settings, tmp_path)
    assert bandits.distance(bandits.Table().probabilities(), bandits.tilted(0.5)) > 0.2
    assert bandits.distance(policy.probabilities(), bandits.tilted(0.5)) <= 0.03
    assert model.head.weight.abs().max() > 0


def test_a_shared_backbone_starts_from_no_reward_model(tmp_path):
    with pytest.raises(CaiError) as caught:
        ppo(tmp_path, value="shared", critic="reward")
    assert str(caught.value) == "[ppo]: 'critic' has no effect with value = \"shared\"; leave it out"
