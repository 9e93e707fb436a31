"""The policy's log-probabilities as its answers were sampled, in place of a pass over them."""

import sys
from dataclasses import replace

import pytest
import tiny
import torch
from test_grpo import grouped
from test_ppo import SETTINGS, both, ppo, prepared

from cai.objectives._passes import heated
from cai.objectives._rollout import newest
from cai.training.batches import collate
from cai.training.distributed import ALONE
from cai.training.loop import accumulate
from cai.training.value import PolicyAndValue

KINDS = ("own", "shared", "grpo")


def made(kind, folder):
    """An objective, and a model that is no longer what it started from."""
    keys = {"temperature": 0.7}
    if kind == "grpo":
        return grouped(folder, **keys), tiny.model(1)
    model = both(seed=1) if kind == "own" else PolicyAndValue(tiny.model(1), shared=True)
    torch.nn.init.normal_(model.head.weight, std=0.3)
    return ppo(folder, value=kind, **keys), model


def rolled_out(kind, folder, passes, dtype="float32"):
    """The first rollout of a run and the metrics of its first step; `passes` notes passes of a policy."""
    folder.mkdir()
    objective, model = made(kind, folder)
    module = sys.modules[type(objective).learn.__module__]

    def noted(policy, *args, **keys):
        passes.append("policy" if policy is objective.policy(model) else "reference")
        return heated(policy, *args, **keys)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "heated", noted)
        data = objective.setup(made(kind, folder)[1], prepared(objective), folder, ALONE)
        settings = replace(SETTINGS, batch_size=16, accumulate=1, dtype=dtype)
        step = next(objective.batches(model, data, settings, ALONE, 0))
    [loss] = accumulate(objective, model, step, dtype)
    return objective, model, newest(folder, 1), {k: v / step.weight for k, v in loss.metrics.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_in_float32_they_are_those_of_a_pass_that_is_not_made(tmp_path, kind, monkeypatch):
    passes, more = [], []
    objective, model, rollout, metrics = rolled_out(kind, tmp_path / "one", passes)
    assert passes == ["reference"]
    policy = objective.policy(model)
    for one in rollout.experiences:
        batch = collate([one.example], ["a"])
        with torch.no_grad():
            expected = heated(policy, batch, 0.7).logps
        torch.testing.assert_close(one.columns["old"], expected, rtol=1e-5, atol=1e-5)
    assert abs(metrics["approx_kl"]) < 1e-9 and metrics["clipped"] == 0
    monkeypatch.setattr(sys.modules[type(objective).learn.__module__], "sampled_logps", lambda *_: None)
    _, _, passed, _ = rolled_out(kind, tmp_path / "two", more)
    assert sorted(more) == ["policy", "reference"]
    for one, other in zip(rollout.experiences, passed.experiences, strict=True):
        assert one.example == other.example
        for name, column in one.columns.items():
            torch.testing.assert_close(column, other.columns[name], rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_in_bfloat16_the_pass_is_made(tmp_path, kind):
    """Sampled in float32 and learned from in bfloat16, the ratio of a first step would not be 1."""
    passes = []
    *_, metrics = rolled_out(kind, tmp_path / "one", passes, dtype="bfloat16")
    assert sorted(passes) == ["policy", "reference"]
    assert abs(metrics["approx_kl"]) < 1e-9 and metrics["clipped"] == 0


def test_in_float64_the_pass_is_made(tmp_path):
    """The engine reads its logits in float32."""
    objective, model = ppo(tmp_path), both(torch.float64)
    data = objective.setup(both(torch.float64), prepared(objective), tmp_path, ALONE)
    next(objective.batches(model, data, SETTINGS, ALONE, 0))
    assert all(one.columns["old"].dtype == torch.float64 for one in newest(tmp_path, 1).experiences)
