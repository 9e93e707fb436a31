"""What is done to a model's layers, one by one: computing them again in the backward pass, compiling them."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch.utils.checkpoint import checkpoint

from cai.errors import CaiError
from cai.training.settings import TrainSettings

FLAG = "gradient_checkpointing"

_found: "WeakKeyDictionary[Any, list[Any]]" = WeakKeyDictionary()


def arrange(model: Any, settings: TrainSettings) -> None:
    """Do to a model what `settings.checkpointing` and `settings.compile` ask for, in place.

    Raises `CaiError` for a model whose layers transformers does not mark, and where nothing can be compiled.
    """
    if settings.checkpointing:
        recompute(model)
    if settings.compile:
        compile_layers(model)


def recompute(model: Any) -> None:
    """Keep of each layer what goes into it alone, and compute it again in the backward pass.

    `learning` is the context in which it happens: the flag that transformers' layers look at is the one that
    turns dropout on as well, so it is set for the layers alone, not for what is in them.
    """
    for layer in _layers(model, "checkpointing"):
        layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)
        setattr(layer, FLAG, True)
        # What a layer would drop itself, were it told that it learns.
        for name in [name for name, value in vars(layer).items() if "drop" in name and type(value) is float]:
            setattr(layer, name, 0.0)


@contextmanager
def learning(model: Any) -> Iterator[bool]:
    """Inside, layers that are to be computed again know it, if there is a gradient; whether there are any."""
    again = [layer for layer in _marked(model) if getattr(layer, FLAG)] if torch.is_grad_enabled() else []
    were = [layer.training for layer in again]
    for layer in again:
        layer.training = True
    try:
        yield bool(again)
    finally:
        for layer, was in zip(again, were, strict=True):
            layer.training = was


def compile_layers(model: Any) -> None:
    """Compile each layer for batches of any size. Attention within a packed batch stays as it is, since its
    pieces differ from batch to batch.
    """
    layers = _layers(model, "compile")
    _try_out(model.device)
    for layer in layers:
        layer.compile(dynamic=True)


def is_compiled(model: Any) -> bool:
    """Whether `compile_layers` was here."""
    return any(layer._compiled_call_impl is not None for layer in _marked(model))


@contextmanager
def uncompiled(model: Any) -> Iterator[None]:
    """Inside, the layers compute as if they had not been compiled: for passes of other shapes and kinds."""
    calls = [(layer, layer._compiled_call_impl) for layer in _marked(model)]
    for layer, _ in calls:
        layer._compiled_call_impl = None
    try:
        yield
    finally:
        for layer, call in calls:
            layer._compiled_call_impl = call


def _layers(model: Any, wish: str) -> list[Any]:
    found = _marked(model)
    if not found:
        unmarked = (
            f"'{wish}' goes by layers, and this model's ({type(model).__name__}) are not marked as such"
        )
        raise CaiError(unmarked, next=f"set {wish} = false")
    return found


def _marked(model: Any) -> list[Any]:
    """What transformers marks as a layer. Looked up once for each model: it is asked for in every pass."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    if model not in _found:
        _found[model] = [part for part in model.modules() if isinstance(part, GradientCheckpointingLayer)]
    return _found[model]


def _try_out(device: torch.device) -> None:
    """A compiler may be missing, which would show as a long report in the first step."""

    def twice(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    try:
        torch.compile(twice)(torch.ones(4, device=device))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise CaiError(f"torch.compile does not work here ({reason})", next="set compile = false") from error
