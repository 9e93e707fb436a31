"""LoRA adapters through peft: put into a model in place, saved in peft's own format, merged.

Only the adapter learns, and the head of a reward model. It is float32 or wider, whatever the model is.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from cai.adapter import WEIGHTS, adapter_config, name_of
from cai.errors import CaiError
from cai.records import draw_seed
from cai.training.settings import Lora

ADAPTER = "default"
PREFIX = "base_model.model."
CAUSAL, SCORING = "CAUSAL_LM", "SEQ_CLS"
# What an adapter must have been trained with to learn on: what cai itself does not offer is off.
PLAIN = {"use_rslora": False, "use_dora": False, "bias": "none", "rank_pattern": {}, "alpha_pattern": {}}


class WhileLearning(torch.nn.Module):
    """Dropout where a gradient is asked for, and nowhere else: models are never in training mode here."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return functional.dropout(x, self.p, training=torch.is_grad_enabled())


def attach(model: Any, lora: Lora, seed: int, base: Path) -> None:
    """Put a new adapter into a model, in place; A is drawn from `seed`, B is zero.

    `base` is the folder that the model is of. Raises `CaiError` when peft is not installed and when a target
    is no layer of the model that can have one.
    """
    with needs_peft():
        from peft import LoraConfig, inject_adapter_in_model
    name, revision = name_of(base)
    head = _scoring_head(model)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.scale,  # type: ignore[arg-type]
        lora_dropout=lora.dropout,
        target_modules=_targets(model, lora.targets),
        fan_in_fan_out=_transposed(model),
        task_type=CAUSAL if head is None else SCORING,
        base_model_name_or_path=name,
        revision=revision,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(draw_seed(seed, "lora"))
        inject_adapter_in_model(config, model, ADAPTER)
    if head is not None:
        head.requires_grad_(True)
    for layer in _layers(model).values():
        if ADAPTER in layer.lora_dropout and lora.dropout:
            layer.lora_dropout[ADAPTER] = WhileLearning(lora.dropout)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.promote_types(parameter.dtype, torch.float32))


def learn_on(model: Any, lora: Lora, folder: Path) -> None:
    """Give a model's new adapter the weights of the adapter in `folder`.

    Raises `CaiError` when that one is of another rank, scale or other targets.
    """
    from safetensors.torch import load_file

    config = adapter_config(folder)
    wanted: dict[str, Any] = {"r": lora.rank, "lora_alpha": lora.scale, **PLAIN}
    differing = {key: config.get(key) for key, value in wanted.items() if config.get(key, value) != value}
    if differing:
        listed = ", ".join(f"{key} = {value}" for key, value in differing.items())
        raise CaiError(
            f"adapter '{folder}' was trained with {listed}",
            next="set 'lora' to the same to train it further, or train from a merged model",
        )
    found = {name.removeprefix(PREFIX): tensor for name, tensor in load_file(folder / WEIGHTS).items()}
    learning = dict(_named(model))
    head = {name for name in learning if ".lora_" not in name}
    if not set(found) >= set(learning) - head or not set(found) <= set(learning):
        raise CaiError(
            f"adapter '{folder}' is on other layers than 'lora' asks for",
            next="set its 'targets' to the same, or train from a merged model",
        )
    with torch.no_grad():
        for name, tensor in found.items():
            learning[name].copy_(tensor)


def is_adapted(model: Any) -> bool:
    """Whether a model has an adapter."""
    return ADAPTER in getattr(model, "peft_config", {})


def save(model: Any, folder: Path) -> None:
    """Write an adapter as peft does, and how generation ends."""
    from safetensors.torch import save_file

    config = model.peft_config[ADAPTER]
    config.inference_mode = True
    # A set has no order of its own, and equal adapters are equal files.
    config.target_modules = sorted(config.target_modules)
    head = _scoring_head(model)
    config.modules_to_save = None if head is None else [_name_of(model, head)]
    config.save_pretrained(folder)
    tensors = {PREFIX + name: parameter.detach().contiguous() for name, parameter in _named(model)}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    if model.can_generate():
        model.generation_config.save_pretrained(folder)


@torch.no_grad()
def merge(model: Any) -> None:
    """Add what the adapter adds to the weights, and take it out of the model."""
    for name, layer in _layers(model).items():
        layer.merge()
        model.set_submodule(name, layer.get_base_layer())
    del model.peft_config
    model.requires_grad_(True)


def merged_parameters(model: Any) -> Iterator[tuple[str, Tensor]]:
    """The parameters of the model that `merge` would leave, by name; the model stays as it is."""
    layers = _layers(model) if is_adapted(model) else {}
    for name, parameter in model.named_parameters():
        layer, inside, rest = name.rpartition(".base_layer.")
        if inside:
            yield f"{layer}.{rest}", _whole(layers[layer], parameter) if rest == "weight" else parameter
        elif ".lora_" not in name:
            yield name, parameter


def load_merged(model: Any, folder: Path) -> Any:
    """A base model with the adapter of a folder, any that peft knows, merged into it."""
    with needs_peft():
        from peft import PeftModel
    with warnings.catch_warnings():
        # peft 0.21 asks transformers 5.23 for an attribute by its old name.
        warnings.simplefilter("ignore", FutureWarning)
        merged: Any = PeftModel.from_pretrained(model, str(folder)).merge_and_unload()
    return merged.requires_grad_(True)


@contextmanager
def needs_peft() -> Iterator[None]:
    """Inside, a missing peft is a `CaiError`."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "peft":
            raise
        raise CaiError("peft is not installed", next='pip install "cai[lora]"') from error


def _whole(layer: Any, weight: Tensor) -> Tensor:
    added: Tensor = layer.get_delta_weight(ADAPTER)
    return weight.detach() + added.detach().to(weight.dtype)


def _layers(model: Any) -> dict[str, Any]:
    """The layers that have an adapter, by name."""
    from peft.tuners.lora import LoraLayer

    return {name: part for name, part in model.named_modules() if isinstance(part, LoraLayer)}


def _named(model: Any) -> Iterator[tuple[str, Tensor]]:
    """What learns, under peft's names but for the prefix."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            yield name.replace(f".{ADAPTER}.", "."), parameter


def _targets(model: Any, wanted: Sequence[str]) -> str | list[str]:
    if not wanted:
        return "all-linear"
    heads = [part for part in (model.get_output_embeddings(), _scoring_head(model)) if part is not None]
    linear = {name: part for name, part in model.named_modules() if _is_linear(part)}
    for target in wanted:
        layers = [part for name, part in linear.items() if f".{name}".endswith(f".{target}")]
        if not layers:
            known = sorted({name.rpartition(".")[2] for name, part in linear.items() if part not in heads})
            raise CaiError(f"no layer of the model is called '{target}'", next=f"known: {', '.join(known)}")
        if any(part is head for part in layers for head in heads):
            raise CaiError(f"'{target}' is the head, which gets no adapter", next="take it out of 'targets'")
    return list(wanted)


def _is_linear(part: Any) -> bool:
    from transformers.pytorch_utils import Conv1D

    return isinstance(part, torch.nn.Linear | Conv1D)


def _transposed(model: Any) -> bool:
    """Whether the layers keep their weights the other way round, as GPT-2's do."""
    from transformers.pytorch_utils import Conv1D

    return any(isinstance(part, Conv1D) for part in model.modules())


def _scoring_head(model: Any) -> Any:
    head = getattr(model, "score", None)
    return head if isinstance(head, torch.nn.Module) else None


def _name_of(model: Any, part: Any) -> str:
    return next(str(name) for name, each in model.named_modules() if each is part)
