"""LoRA: stopped runs, killed ones, and several processes."""

import multiprocessing
from dataclasses import replace

import pytest
import tiny
import torch
from safetensors.torch import load_file
from test_lora import ADAPTER, PAIRS, ROWS, SETTINGS, TALKS

from cai.objectives.dpo import Dpo
from cai.objectives.reward import Reward
from cai.objectives.sft import Sft
from cai.training.fit import fit
from cai.weights import weights_digest

# Of peft, which asks transformers 5.23 for an attribute by its old name.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.folder(tmp_path_factory.mktemp("models") / "start")


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_a_stopped_run_goes_on_and_ends_alike(model, tmp_path, dropout):
    settings = replace(SETTINGS, lora=replace(ADAPTER, dropout=dropout))
    fit(Sft(), settings, model=model, sources=TALKS, folder=tmp_path / "whole")

    def stop(step, total, metrics):
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(Sft(), settings, model=model, sources=TALKS, folder=tmp_path / "broken", report=stop)
    fit(Sft(), settings, model=model, sources=TALKS, folder=tmp_path / "broken")
    assert weights_digest(tmp_path / "broken") == weights_digest(tmp_path / "whole")
    metrics = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "broken")]
    assert metrics[0] == metrics[1]


def test_a_checkpoint_holds_what_learns_alone(model, tmp_path):
    def stop(step, total, metrics):
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(Sft(), SETTINGS, model=model, sources=TALKS, folder=tmp_path / "out", report=stop)
    state = torch.load(tmp_path / "out.training" / "checkpoint.pt", weights_only=True)
    assert state["model"] and all(".lora_" in name for name in state["model"])


@pytest.mark.slow
@pytest.mark.parametrize("many", [{"processes": 2}, {"nproc": 2}], ids=["copies", "parts"])
@pytest.mark.parametrize("kind", ["sft", "dpo", "reward"])
def test_several_processes_learn_what_one_does(model, tmp_path, kind, many):
    objective = {"sft": Sft(), "dpo": Dpo(), "reward": Reward()}[kind]
    sources = {"sft": TALKS, "dpo": PAIRS, "reward": Reward().sources(ROWS)[0]}[kind]
    found = []
    for name, changes in (("one", {}), ("two", many)):
        fit(objective, replace(SETTINGS, **changes), model=model, sources=sources, folder=tmp_path / name)
        found.append(load_file(tmp_path / name / "adapter_model.safetensors"))
    assert found[0].keys() == found[1].keys()
    for name, tensor in found[0].items():
        torch.testing.assert_close(found[1][name], tensor, rtol=1e-4, atol=1e-5)


def run_to_the_end(model, folder):
    torch.set_num_threads(1)
    settings = replace(SETTINGS, epochs=12, checkpoint_every=3, lora=replace(ADAPTER, dropout=0.1))
    fit(Dpo(), settings, model=model, sources=PAIRS, folder=folder)


def run_until(model, folder, delay):
    """Train in a forked process that is killed after `delay` seconds; its exit code."""
    process = multiprocessing.get_context("fork").Process(target=run_to_the_end, args=(model, folder))
    process.start()
    process.join(delay)
    if process.is_alive():
        process.kill()
    process.join()
    return process.exitcode


@pytest.mark.slow
def test_a_killed_process_ends_as_an_unbroken_one(model, tmp_path):
    run_to_the_end(model, tmp_path / "whole")
    kills = 0
    for trial in range(4):
        folder, delay = tmp_path / f"broken{trial}", 0.2 + 0.2 * trial
        while run_until(model, folder, delay) != 0:
            kills += 1
            delay *= 1.3
        for name in ("adapter_model.safetensors", "metrics.jsonl", "adapter_config.json"):
            assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert kills >= 8
