"""Layers computed again in the backward pass, or compiled: the same numbers; what cannot be is an error."""

import json
from dataclasses import replace

import architectures
import pytest
import tiny
import torch
from bandits import prompts, reward_file
from test_batches import SHARING, assert_near, gradients

from cai.config import build
from cai.errors import CaiError
from cai.objectives.ppo import Ppo
from cai.objectives.sft import Sft
from cai.records import assistant, user
from cai.training import layers
from cai.training.batches import collate, completion_logps
from cai.training.data import Conversation
from cai.training.fit import fit
from cai.training.settings import Lora, TrainSettings

SETTINGS = TrainSettings(lr=1e-2, epochs=2, batch_size=4, dtype="float32")
TALKS = [
    Conversation(id=f"t{at}", messages=(user(f"say {at}" * at), assistant("yes " * (1 + at % 5))))
    for at in range(12)
]
BATCHES = [SHARING, SHARING[:2], SHARING[3:], [SHARING[2]] * 5]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.folder(tmp_path_factory.mktemp("models") / "start")


def sums(model, examples):
    return completion_logps(model, collate(examples, [""] * len(examples)))[0]


def seen_layers(model):
    """How often the first layer computes."""
    calls = []
    layer = next(part for part in model.modules() if type(part).__name__.endswith(("Layer", "Block")))
    next(layer.children()).register_forward_hook(lambda *_: calls.append(1))
    return calls


@pytest.mark.parametrize("name", [*architectures.PACKED, *architectures.PADDED])
def test_gradients_are_the_same_when_layers_are_computed_again(name):
    plain, again = architectures.model(name), architectures.model(name)
    layers.recompute(again)
    expected = sums(plain, SHARING)
    found = sums(again, SHARING)
    assert torch.equal(found, expected)
    assert_near(gradients(again, found), gradients(plain, expected), 1e-9)
    assert not any(part.training for part in again.modules())


def test_layers_are_computed_again_in_the_backward_pass_only():
    model = architectures.model("llama")
    sums(model, SHARING)  # the first time, it is tried what the model can do
    layers.recompute(model)
    calls = seen_layers(model)
    with torch.no_grad():
        sums(model, SHARING)
    assert len(calls) == 1
    total = sums(model, SHARING).sum()
    assert len(calls) == 2
    total.backward()
    assert len(calls) == 3


def kept(model):
    """The numbers that a pass keeps for its backward pass, weights aside."""
    own = {parameter.data_ptr() for parameter in model.parameters()}
    sizes = []

    def note(tensor):
        if tensor.data_ptr() not in own:
            sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        sums(model, SHARING)
    return sum(sizes)


def test_less_is_kept_for_the_backward_pass():
    plain, again = architectures.model("llama"), architectures.model("llama")
    layers.recompute(again)
    sums(again, SHARING)
    assert kept(again) < kept(plain) / 3


def test_dropout_stays_off():
    model = architectures.model("gpt2")
    assert model.config.resid_pdrop and model.config.attn_pdrop
    layers.recompute(model)
    assert torch.equal(sums(model, SHARING), sums(model, SHARING))


@pytest.mark.parametrize("lora", [None, Lora(rank=4, dropout=0.3)])
def test_a_run_ends_alike_with_checkpointing(model, tmp_path, lora):
    for name, checkpointing in (("plain", False), ("again", True)):
        settings = replace(SETTINGS, checkpointing=checkpointing, lora=lora)
        fit(Sft(), settings, model=model, sources=TALKS, folder=tmp_path / name)
    plain, again = (
        (tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("plain", "again")
    )
    for one, two in zip(map(json.loads, plain), map(json.loads, again), strict=True):
        assert one == pytest.approx(two, rel=1e-5)


def rolled_out(model, tmp_path, **keys):
    body = "return sum(letter.isalpha() for letter in answer) / 4"
    fields = {"reward": reward_file(tmp_path, body), "rollout": 6, "samples": 2, "max_tokens": 5, "reuse": 2}
    objective = build(Ppo, fields, "[ppo]")
    settings = TrainSettings(lr=1e-3, steps=6, batch_size=6, checkpoint_every=4, **keys)
    sources, _ = objective.sources(prompts(6))
    folder = tmp_path / "-".join(map(str, [*keys, "out"]))
    fit(objective, settings, model=model, sources=sources, folder=folder)
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_rollouts_are_the_same_with_checkpointing(model, tmp_path):
    plain, again = rolled_out(model, tmp_path), rolled_out(model, tmp_path, checkpointing=True)
    for one, two in zip(plain, again, strict=True):
        assert one == pytest.approx(two, rel=1e-4, abs=1e-6)


class Unmarked(torch.nn.Module):
    pass


@pytest.mark.parametrize("wish", ["checkpointing", "compile"])
def test_a_model_without_marked_layers_is_an_error(wish):
    with pytest.raises(CaiError) as caught:
        layers.arrange(Unmarked(), replace(SETTINGS, **{wish: True}))
    assert str(caught.value) == (
        f"'{wish}' goes by layers, and this model's (Unmarked) are not marked as such; set {wish} = false"
    )


def test_a_machine_that_cannot_compile_is_an_error(monkeypatch):
    def broken(function):
        def fails(*_):
            raise RuntimeError("no C++ compiler found\nand much more")

        return fails

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(CaiError) as caught:
        layers.compile_layers(tiny.model())
    assert str(caught.value) == (
        "torch.compile does not work here (no C++ compiler found); set compile = false"
    )


def compiled(test):
    """Compiling takes seconds, and torch's compiler warns of torch's own ways."""
    return pytest.mark.slow(pytest.mark.filterwarnings("ignore")(test))


@pytest.fixture
def compiler():
    """Skips where nothing can be compiled."""
    try:
        layers._try_out(torch.device("cpu"))
    except CaiError as error:
        pytest.skip(str(error))
    yield
    torch.compiler.reset()


@compiled
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", ["llama", "mistral-window", "gpt2", "bloom"])
def test_compiled_layers_compute_the_same(compiler, name, checkpointing):
    plain, model = (architectures.model(name, dtype=torch.float32) for _ in range(2))
    layers.compile_layers(model)
    if checkpointing:
        layers.recompute(model)
    for examples in BATCHES:
        expected, found = sums(plain, examples), sums(model, examples)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-3)
        assert_near(gradients(model, found), gradients(plain, expected), 1e-4)


@compiled
def test_batches_of_other_sizes_are_not_compiled_anew(compiler):
    model = architectures.model("llama", dtype=torch.float32)
    layers.compile_layers(model)
    torch._dynamo.utils.counters.clear()
    made = []
    for examples in BATCHES:
        sums(model, examples).sum().backward()
        made.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert made[0] > 0 and made[-1] == made[1]


@compiled
def test_a_run_ends_alike_compiled(compiler, model, tmp_path):
    plain, fast = rolled_out(model, tmp_path), rolled_out(model, tmp_path, compile=True)
    for one, two in zip(plain, fast, strict=True):
        assert one == pytest.approx(two, rel=1e-3, abs=1e-4)
