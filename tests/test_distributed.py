"""A model in parts over processes learns what one process learns, and goes on with any number of them."""

import json
import multiprocessing
import re
from dataclasses import replace
from types import SimpleNamespace

import architectures
import pytest
import tiny
import torch
import torch.distributed as dist
from test_loop import rows, weights
from test_objectives_family import comparisons
from torch.distributed.fsdp import FSDPModule

from cai.errors import CaiError
from cai.objectives.dpo import Dpo
from cai.objectives.exo_rw import ExoRw
from cai.objectives.kto import Kto
from cai.objectives.reward import Reward
from cai.objectives.sft import Sft
from cai.objectives.simpo import Simpo
from cai.training.distributed import Group
from cai.training.fsdp import Sharded, shard
from cai.training.launch import launch
from cai.training.models import start_policy
from cai.training.scalar import start_scorer
from cai.training.settings import Lora, TrainSettings

# Micro-batches of few rows: processes get unequally many, and some step has fewer rows than processes.
SETTINGS = TrainSettings(lr=1e-2, epochs=2, batch_size=3, accumulate=2, checkpoint_every=2, warmup=0.2)
# GPT-2 computes in float64 throughout, and the norms of other models in float32 whatever they are in.
TIGHT, ROUNDED = 1e-9, 1e-6


def learn(objective, model, data, folder, settings=SETTINGS, report=None, **changes):
    """Weights and metrics after a run, or what a run that is broken off raises."""
    launch(objective, model, data, replace(settings, **changes), folder, report=report)
    logged = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return weights(model), logged


def assert_equal(one, other, tolerance):
    (first, logs), (second, others) = one, other
    assert first.keys() == second.keys() and len(logs) == len(others)
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=tolerance, atol=tolerance, msg=name)
    for row, theirs in zip(logs, others, strict=True):
        assert row == pytest.approx(theirs, rel=tolerance, abs=tolerance)


def test_two_processes_learn_what_one_does(tmp_path):
    """In float32, as it is used; the last of 11 rows leaves one process without any."""
    settings = TrainSettings(lr=1e-2, epochs=1, batch_size=5)
    one = learn(Sft(), tiny.model(), rows(11), tmp_path / "one", settings)
    two = learn(Sft(), tiny.model(), rows(11), tmp_path / "two", settings, nproc=2)
    assert_equal(one, two, 1e-5)


def wide(tmp_path):
    return architectures.model("gpt2")


def scorer(tmp_path):
    wide(tmp_path).save_pretrained(tmp_path / "policy")
    return start_scorer(tmp_path / "policy", torch.float64)


CASES = {
    "sft": (Sft(), wide),
    "reward": (Reward(centring=0.1), scorer),
    "dpo": (Dpo(), wide),
    "kto": (Kto(), wide),
    "simpo": (Simpo(), wide),
    "exo_rw": (ExoRw(), wide),
}


def data_of(objective, count=13):
    if isinstance(objective, Sft):
        return rows(count)
    sources, _ = objective.sources(comparisons(count))
    return objective.prepare(sources, tiny.tokenizer(), 128)


@pytest.mark.slow
@pytest.mark.parametrize("nproc", [2, 4])
@pytest.mark.parametrize("kind", CASES)
def test_every_objective_learns_the_same(tmp_path, kind, nproc):
    objective, start = CASES[kind]
    data = data_of(objective)
    one = learn(objective, start(tmp_path), data, tmp_path / "one")
    several = learn(objective, start(tmp_path), data, tmp_path / "several", nproc=nproc)
    assert_equal(one, several, TIGHT)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma2"])
def test_every_architecture_learns_the_same(tmp_path, name):
    """One with tied weights, one with a head of its own, one that is padded."""
    one = learn(Sft(), architectures.model(name), rows(13), tmp_path / "one")
    two = learn(Sft(), architectures.model(name), rows(13), tmp_path / "two", nproc=2)
    assert_equal(one, two, ROUNDED)


@pytest.mark.slow
def test_a_large_head_learns_the_same(tmp_path):
    """Its logits are made in chunks, from a weight that is gathered for it."""
    settings = TrainSettings(lr=1e-2, epochs=1, batch_size=12)
    starts = [tiny.model(dtype=torch.float64, vocab=400_000) for _ in range(2)]
    one = learn(Sft(), starts[0], rows(23), tmp_path / "one", settings)
    two = learn(Sft(), starts[1], rows(23), tmp_path / "two", settings, nproc=2)
    assert_equal(one, two, ROUNDED)


@pytest.mark.slow
def test_bfloat16_is_the_arithmetic_and_not_the_weights(tmp_path):
    one = learn(Sft(), tiny.model(), rows(24), tmp_path / "one", dtype="bfloat16", lr=1e-3)
    two = learn(Sft(), tiny.model(), rows(24), tmp_path / "two", dtype="bfloat16", lr=1e-3, nproc=2)
    assert {value.dtype for value in two[0].values()} == {torch.float32}
    losses = [[row["loss"] for row in logged] for _, logged in (one, two)]
    assert losses[0] == pytest.approx(losses[1], rel=2e-2)
    # Updates that bfloat16 could not hold are there.
    assert any((value != value.bfloat16()).any() for value in two[0].values())


class Stop(Exception):
    """Stands for whatever ends a run."""


def stop_at(number, what):
    def report(step, total, metrics):
        if step == number:
            what()

    return report


def stop():
    raise Stop


def kill_one():
    multiprocessing.active_children()[-1].kill()


def kill_all():
    for process in multiprocessing.active_children():
        process.kill()


@pytest.mark.slow
def test_a_run_goes_on_with_any_number_of_processes(tmp_path):
    """2, 4, 1, 2 and 4: each dies at a step of its own, and the last ends as one unbroken process does."""
    objective, data = Dpo(), data_of(Dpo(), 40)
    whole = learn(objective, wide(tmp_path), data, tmp_path / "whole")
    folder = tmp_path / "broken"
    for nproc, number in ((2, 3), (4, 5), (1, 7), (2, 9)):
        with pytest.raises(Stop):
            learn(objective, wide(tmp_path), data, folder, report=stop_at(number, stop), nproc=nproc)
        assert not multiprocessing.active_children()
    broken = learn(objective, wide(tmp_path), data, folder, nproc=4)
    assert_equal(whole, broken, TIGHT)
    # The reference was computed once, by two, and the newest checkpoint is alone.
    assert len(list(folder.glob("reference-*.pt"))) == 1
    assert [path.name for path in folder.glob("checkpoint-*")] == ["checkpoint-14"]


@pytest.mark.slow
@pytest.mark.parametrize("what", [kill_one, kill_all])
def test_a_killed_process_ends_them_all_and_the_run_goes_on(tmp_path, what):
    whole = learn(Sft(), wide(tmp_path), rows(40), tmp_path / "whole")
    with pytest.raises(CaiError) as caught:
        learn(Sft(), wide(tmp_path), rows(40), tmp_path / "broken", report=stop_at(5, what), nproc=2)
    assert str(caught.value) in [
        f"training process {rank} died (SIGKILL); run the command again to go on from the last checkpoint"
        for rank in range(2)
    ]
    assert not multiprocessing.active_children()
    broken = learn(Sft(), wide(tmp_path), rows(40), tmp_path / "broken", nproc=2)
    assert_equal(whole, broken, TIGHT)


@pytest.mark.slow
def test_an_error_in_the_processes_reaches_the_caller(tmp_path):
    learn(Sft(), tiny.model(), rows(10), tmp_path, nproc=2)
    with pytest.raises(CaiError) as caught:
        learn(Sft(), tiny.model(), rows(10), tmp_path, nproc=2, lr=1e-3)
    assert str(caught.value) == (
        f"{tmp_path}: a training run with other settings stopped here (lr changed); "
        "restore them to go on, or delete the folder to start anew"
    )


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_them_all(tmp_path):
    with pytest.raises(CaiError) as caught:
        learn(Sft(), tiny.model(), rows(24), tmp_path, nproc=2, lr=1e30, schedule="constant", warmup=0.0)
    assert "step 2: loss 5.568, gradient norm nan on rows" in str(caught.value)
    assert "; lower lr or take those rows out; the last checkpoint is kept" in str(caught.value)
    # Those of either process.
    assert len(re.findall(r"row\d+", str(caught.value))) == 6
    assert not multiprocessing.active_children()


def test_who_has_less_to_do_computes_beside_the_others():
    items = [*range(5)]
    parts = [Sharded(rank=rank, world=4) for rank in range(4)]
    assert [list(part.share(items)) for part in parts] == [[0, 4], [1], [2], [3]]
    assert [list(part.idle(items)) for part in parts] == [[], [0], [0], [0]]
    assert [list(Group(rank=rank, world=4).idle(items)) for rank in range(4)] == [[]] * 4
    assert [list(part.idle(items[:4])) for part in parts] == [[]] * 4


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("cuda", '3 processes take a GPU each, and there are 2 here; set nproc = 2, or device = "cpu"'),
        ("auto", '3 processes take a GPU each, and there are 2 here; set nproc = 2, or device = "cpu"'),
        ("cuda:1", "device = 'cuda:1' is one GPU, and each of 3 processes takes one; set device = \"cuda\""),
    ],
)
def test_every_process_needs_a_gpu_of_its_own(tmp_path, monkeypatch, device, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(CaiError) as caught:
        learn(Sft(), tiny.model(), rows(), tmp_path, nproc=3, device=device)
    assert str(caught.value) == message


def test_a_model_larger_than_shared_memory_is_an_error(tmp_path, monkeypatch):
    little = SimpleNamespace(free=10_000)
    monkeypatch.setattr("shutil.disk_usage", lambda path: little)
    with pytest.raises(CaiError) as caught:
        learn(Sft(), tiny.model(vocab=200_000), rows(), tmp_path, nproc=2)
    assert str(caught.value) == (
        "the model takes 12.8 MB of shared memory, and /dev/shm has 0.0; "
        "enlarge it (docker run --ipc=host), or use torchrun, which needs none"
    )


def test_copies_and_parts_are_two_ways():
    with pytest.raises(ValueError, match="'processes' and 'nproc' are both given; leave one out"):
        TrainSettings(epochs=1, batch_size=1, processes=2, nproc=2)


def test_a_model_without_blocks_is_an_error():
    model = tiny.model()
    model._no_split_modules = set()
    with pytest.raises(CaiError) as caught:
        shard(model, torch.device("cpu"), "float32")
    assert str(caught.value) == (
        "LlamaForCausalLM does not say what its blocks are (_no_split_modules); train it without nproc"
    )


@pytest.fixture
def member(tmp_path):
    """This process as the only one of a group."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    yield Sharded(rank=0, world=1)
    dist.destroy_process_group()


def logits_of(model):
    with torch.no_grad():
        return model(torch.arange(7)[None]).logits


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_gathered_model_is_a_plain_one_and_weighs_nothing_afterwards(member, dtype):
    model, whole = tiny.model(), tiny.model()
    if dtype == "bfloat16":
        # All weights and no buffer: what a rotation is computed from stays exact.
        for weight in whole.parameters():
            weight.data = weight.data.bfloat16()
    expected = logits_of(whole)
    shard(model, torch.device("cpu"), dtype)
    kept = member.frozen(model)
    with torch.no_grad():
        model.model.norm.weight.mul_(2.0)
    with member.gathered(model) as now, member.gathered(kept) as start:
        assert not any(isinstance(part, FSDPModule) for part in now.modules())
        assert torch.equal(logits_of(start), expected) and not torch.equal(logits_of(now), expected)
        assert now.lm_head.weight is now.model.embed_tokens.weight
    for plain in (now, start):
        assert sum(weight.nbytes for weight in plain.parameters()) == 0
    # And it can be gathered again, a part of it too.
    with member.gathered(model.model) as part:
        assert torch.equal(part.norm.weight, 2 * whole.model.norm.weight)


@pytest.mark.slow
@pytest.mark.parametrize("how", [{"lora": Lora(rank=4)}, {"checkpointing": True}])
def test_an_adapter_and_layers_computed_again_are_in_parts_too(tmp_path, how):
    policy = tiny.folder(tmp_path / "policy")
    found = []
    for nproc in (1, 2):
        settings = replace(SETTINGS, nproc=nproc, **how)
        model = start_policy(policy, "cpu", settings)
        found.append(learn(Dpo(), model, data_of(Dpo()), tmp_path / str(nproc), settings))
    assert_equal(*found, 1e-4)
