"""A model in parts: every process holds its part of each weight and of the optimizer (FSDP2).

A block's weights are gathered just before it computes and dropped just after, so all processes have to make
equally many passes; one with less to do computes a micro-batch of another's to no effect.
"""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar
from weakref import WeakKeyDictionary

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from cai.errors import CaiError
from cai.training.distributed import Group

T = TypeVar("T")

# Of every module of a model in parts what it was before, without its weights.
_plain: "WeakKeyDictionary[Any, Any]" = WeakKeyDictionary()


@dataclass(frozen=True, kw_only=True)
class Sharded(Group):
    """The processes of a training run, each with a part of the model."""

    sharded: ClassVar[bool] = True

    def idle(self, items: Sequence[T]) -> Sequence[T]:
        """As many of all `items` as there are more passes than this process has items of its own."""
        return [*items[:1]] * (math.ceil(len(items) / self.world) - len(self.share(items)))

    def add_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Sum what is not in parts; the backward pass has summed the rest."""
        super().add_gradients(kinds(parameters)[0])

    def clip(self, parameters: Sequence[torch.nn.Parameter], limit: float) -> float:
        """By the norm of the whole gradient. Scaling is `torch.nn.utils.clip_grad_norm_`'s."""
        rest, cut = kinds([each.grad for each in parameters if each.grad is not None])
        parts = [piece.to_local() for piece in cut]
        square = torch.nn.utils.get_total_norm(parts).double() ** 2
        dist.all_reduce(square)
        norm = math.sqrt(float(square) + float(torch.nn.utils.get_total_norm(rest)) ** 2)
        torch._foreach_mul_([*parts, *rest], min(1.0, limit / (norm + 1e-6)))
        return norm

    def gathered(self, model: Any) -> AbstractContextManager[Any]:
        """A plain model, of which each process has a copy for as long: see `gathered`."""
        return gathered(model)

    def frozen(self, model: Any) -> "Frozen":
        """In parts as the model is."""
        return frozen(model)


def kinds(tensors: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Those that are whole, and those of which this process has a part."""
    complete = [tensor for tensor in tensors if not isinstance(tensor, DTensor)]
    return complete, [tensor for tensor in tensors if isinstance(tensor, DTensor)]


def shard(model: Any, device: torch.device, dtype: str) -> None:
    """Cut the weights of `model` over all processes, in place; their passes compute on `device` in `dtype`.

    What is not computed by a pass of its own (the head of a reward or value model) stays whole.
    Raises `CaiError` for a model that does not say what its blocks are.
    """
    roots = roots_of(model)
    blocks = [part for root in roots for part in _blocks_of(root)]
    narrow = torch.bfloat16 if dtype == "bfloat16" else None
    _plain.update(zip(model.modules(), _emptied(model, device, narrow).modules(), strict=True))
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    policy = MixedPrecisionPolicy(param_dtype=narrow, reduce_dtype=torch.float32 if narrow else None)
    # What is inside goes first: a block takes what its own parts have left.
    for part in (*reversed(blocks), *roots):
        fully_shard(part, mesh=mesh, mp_policy=policy)
        # A sum, not the mean: the loss is divided by the weight of the whole step.
        part.set_gradient_divide_factor(1.0)
        # gloo has no other reduction that would do.
        part.set_force_sum_reduction_for_comms(True)
    for tensor in (*kinds([*model.parameters()])[0], *model.buffers()):
        # A copy: other processes may have theirs in the same memory.
        tensor.data = tensor.data.to(device, copy=True)


def roots_of(model: Any) -> list[Any]:
    """The parts of a model whose `forward` the trainer calls (see `forward.states`).

    A model that is several names them in `passed`.
    """
    passed = getattr(model, "passed", (model,))
    return [each if each.get_output_embeddings() is not None else each.base_model for each in passed]


def _blocks_of(root: Any) -> list[Any]:
    named = set(root._no_split_modules or ())
    blocks = [part for part in root.modules() if type(part).__name__ in named]
    if not blocks:
        unknown = f"{type(root).__name__} does not say what its blocks are (_no_split_modules)"
        raise CaiError(unknown, next="train it without nproc")
    return blocks


def reshard(model: Any) -> None:
    """Drop what a pass without a backward pass has left gathered."""
    for part in model.modules():
        if isinstance(part, FSDPModule):
            part.reshard()


@dataclass(frozen=True, kw_only=True)
class Frozen:
    """This process's parts of a model as it was once; `plain` is the model without weights."""

    plain: Any
    parts: Mapping[str, Any]


def frozen(model: Any) -> Frozen:
    """A model in parts, or a part of it, as it is now. What does not learn is not copied."""
    plain = copy.deepcopy(_plain[model])
    parts = {name: part.clone() if part.requires_grad else part for name, part in _parts(model, plain)}
    return Frozen(plain=plain, parts={name: part.detach() for name, part in parts.items()})


@contextmanager
def gathered(model: Any) -> Iterator[Any]:
    """The whole of a model in parts, or of a part of it, or of what `frozen` kept, as a plain model.

    All processes have to enter together. Inside, none waits for another, so each can make as many passes as
    it likes, without a gradient. Until it is left, each has all weights in memory, in the dtype that passes
    compute in, beside its parts. What is not in parts is the model's own: to change it is to change that.
    """
    kept = model if isinstance(model, Frozen) else None
    plain = _plain[model] if kept is None else kept.plain
    for name, part in _parts(model, plain) if kept is None else kept.parts.items():
        weight = plain.get_parameter(name)
        mine = part.detach().to(weight.dtype)
        weight.data = mine.full_tensor() if isinstance(mine, DTensor) else mine
    try:
        yield plain
    finally:
        for weight in plain.parameters():
            weight.data = weight.new_empty(0)


def _parts(model: Any, plain: Any) -> Iterator[tuple[str, Any]]:
    """By name what `plain` has to be given of a model; a weight in two places is given once."""
    reshard(model)
    for name, _ in plain.named_parameters():
        yield name, model.get_parameter(name)


def _emptied(model: Any, device: torch.device, narrow: torch.dtype | None) -> Any:
    """A model with weights of no size, which are of the dtype `narrow` where it computes in passes."""
    plain = _rebuilt(model, lambda weight: weight.new_empty(0, device=device)).requires_grad_(False)
    for root in roots_of(plain) if narrow else ():
        for weight in root.parameters():
            weight.data = weight.data.to(narrow)
    return plain.to(device)


def whole(model: Any) -> Iterator[tuple[str, Tensor]]:
    """Every parameter by name, gathered one at a time. All processes have to ask for all of them."""
    reshard(model)
    for name, parameter in model.named_parameters():
        full = parameter.detach()
        yield name, full.full_tensor() if isinstance(full, DTensor) else full


def part_of(full: Tensor, like: Tensor) -> Tensor:
    """This process's part of a whole tensor that every process has, cut as `like` is (or whole as it is)."""
    if not isinstance(like, DTensor):
        return full.to(like.device)
    part: Tensor = distribute_tensor(
        full.to(like.device), like.device_mesh, like.placements, src_data_rank=None
    )
    return part


def twin(model: Any) -> Any:
    """A model of its own that shares the weights of `model`: cutting one leaves the other whole."""
    return _rebuilt(model, lambda weight: weight)


def outline(model: Any) -> Any:
    """The model without its weights, to be sent to another process."""
    return _rebuilt(model, lambda weight: torch.empty_like(weight, device="meta"))


def blank(model: Any) -> Any:
    """The model of an outline, with weights that are anything: `spread` fills them in."""
    return _rebuilt(model, lambda weight: torch.empty_like(weight, device="cpu"))


def _rebuilt(model: Any, weight: Any) -> Any:
    made = {
        id(parameter): torch.nn.Parameter(weight(parameter.data), requires_grad=parameter.requires_grad)
        for parameter in model.parameters()
    }
    return copy.deepcopy(model, made)


def weights_of(model: Any) -> dict[str, Tensor]:
    """The weights of a whole model under all their names: what is one there may be two in parts."""
    return {name: weight.data for name, weight in model.named_parameters(remove_duplicate=False)}


def spread(model: Any, weights: Mapping[str, Tensor] | None) -> None:
    """Give every process its part of the weights that rank 0 has whole (None elsewhere)."""
    for name, parameter in model.named_parameters():
        if weights is None:
            full = torch.empty(parameter.shape, dtype=parameter.dtype, device=parameter.device)
        else:
            full = weights[name].to(parameter.device)
        dist.broadcast(full, 0)
        parameter.data.copy_(part_of(full, parameter))


def collect(model: Any, weights: Mapping[str, Tensor] | None) -> None:
    """Write the trained weights into the whole ones that rank 0 has (None elsewhere)."""
    for name, full in whole(model):
        if weights is not None:
            weights[name].copy_(full)
