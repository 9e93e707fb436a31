"""Micro-batches cut for a CPU's cache: what goes together, and that nothing but rounding changes."""

from dataclasses import replace

import pytest
import torch
from test_ppo import SETTINGS, both, ppo, prepared

from cai.objectives import _passes
from cai.objectives._passes import pieces
from cai.objectives._rollout import newest
from cai.training.distributed import ALONE
from cai.training.loop import accumulate


def step_of(folder, monkeypatch, most):
    """The first step of a run whose pieces have at most so many tokens: its micro-batches and its losses."""
    folder.mkdir()
    monkeypatch.setattr(_passes, "CACHED_TOKENS", most)
    objective, model = ppo(folder), both(torch.float64, 1)
    data = objective.setup(both(torch.float64, 0), prepared(objective), folder, ALONE)
    settings = replace(SETTINGS, batch_size=16, accumulate=1)
    step = next(objective.batches(model, data, settings, ALONE, 0))
    losses = accumulate(objective, model, step)
    sums = {"loss": sum(float(loss.total) for loss in losses)}
    for loss in losses:
        for name, value in loss.metrics.items():
            sums[name] = sums.get(name, 0.0) + value
    return step, sums, [parameter.grad for parameter in model.parameters()]


def test_a_cut_changes_neither_gradient_nor_metrics(tmp_path, monkeypatch):
    step, expected, gradients = step_of(tmp_path / "whole", monkeypatch, 10**6)
    assert [len(micro.batch.names) for micro in step.micros] == [16]
    step, found, cut = step_of(tmp_path / "cut", monkeypatch, 1)
    # The two answers to a prompt share it, so they stay together.
    assert [len(micro.batch.names) for micro in step.micros] == [2] * 8
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-9)
    for gradient, other in zip(gradients, cut, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-5, atol=1e-6)


def test_pieces_are_filled_in_order(tmp_path, monkeypatch):
    step_of(tmp_path / "run", monkeypatch, 10**6)
    answers = newest(tmp_path / "run", 1).experiences
    monkeypatch.setattr(_passes, "CACHED_TOKENS", sum(len(one.example.ids) for one in answers[:6]))
    found = pieces(answers, torch.device("cpu"), ALONE)
    assert found[0] == [*answers[:6]] and [one for piece in found for one in piece] == [*answers]
    assert pieces(answers, torch.device("cuda"), ALONE) == [[*answers]]
    assert pieces(answers, torch.device("cpu"), replace(ALONE, world=2)) == [[*answers]]
