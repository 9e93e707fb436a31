"""PPO and GRPO killed with SIGKILL at any moment, or spread over processes, end as an unbroken run does."""

import json
import multiprocessing
from dataclasses import replace
from pathlib import Path

import bandits
import pytest
import tiny
import torch
from test_grpo import grouped
from test_grpo import prepared as prompts
from test_ppo import SETTINGS, ppo, same

from cai.training.launch import launch
from cai.training.loop import train
from cai.training.value import PolicyAndValue

LONG = replace(SETTINGS, steps=40, checkpoint_every=3)


def objective_of(kind, folder):
    if kind == "ppo":
        return ppo(folder, show_every=1, kl_target=0.5, kl_horizon=50.0, stop_kl=1e-3, reuse=3)
    return grouped(folder, reuse=2, show_every=1)


def model_of(kind):
    return PolicyAndValue(tiny.model()) if kind == "ppo" else tiny.model()


def run_to_the_end(kind, root, folder):
    torch.set_num_threads(1)
    objective, model = objective_of(kind, root), model_of(kind)
    train(objective, model, prompts(objective), LONG, folder)
    torch.save(model.state_dict(), folder / "final.pt")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ppo", "grpo"])
def test_a_killed_process_ends_as_an_unbroken_one(tmp_path, kind):
    bandits.reward_file(tmp_path)
    run_to_the_end(kind, tmp_path, tmp_path / "whole")
    expected = torch.load(tmp_path / "whole" / "final.pt", weights_only=True)
    kills = 0
    for trial in range(5):
        folder = tmp_path / f"broken{trial}"
        delay = 0.1 + 0.15 * trial
        while run_until(kind, tmp_path, folder, delay) != 0:
            kills += 1
            delay *= 1.3
        assert same(torch.load(folder / "final.pt", weights_only=True), expected)
        for path in [Path("metrics.jsonl"), *Path("samples").glob("*.jsonl")]:
            ended = (folder / path).read_text().replace(f'"{folder.name}"', '"whole"')
            assert ended == (tmp_path / "whole" / path).read_text()
        names = [
            sorted(path.name for path in (one / "samples").iterdir()) for one in (folder, tmp_path / "whole")
        ]
        assert names[0] == names[1]
    assert kills >= 10


def run_until(kind, root, folder, delay):
    """Train in a forked process that is killed after `delay` seconds. Returns its exit code."""
    process = multiprocessing.get_context("fork").Process(target=run_to_the_end, args=(kind, root, folder))
    process.start()
    process.join(delay)
    if process.is_alive():
        process.kill()
    process.join()
    return process.exitcode


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ppo", "grpo"])
def test_two_processes_learn_what_one_does(tmp_path, kind):
    found = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        objective, model = objective_of(kind, tmp_path), model_of(kind)
        settings = replace(SETTINGS, steps=8, processes=processes)
        launch(objective, model, prompts(objective), settings, folder)
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        found.append((model.state_dict(), rows))
    (one, first), (two, second) = found
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-4)
    for name in ("loss", "reward", "kl", "tokens", "length"):
        assert [row[name] for row in first] == pytest.approx(
            [row[name] for row in second], rel=1e-3, abs=1e-5
        )
