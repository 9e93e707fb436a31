"""A model in parts: every process holds its part of each weight and of the optimizer (FSDP2).

A block's weights are gathered just before it computes and dropped just after, so all processes have to make
equally many passes; one with less to do computes a micro-batch of another's to no effect.
"""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from cai.errors import CaiError
from cai.training.distributed import Group

T = TypeVar("T")


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


def kinds(tensors: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Those that are whole, and those of which this process has a part."""
    complete = [tensor for tensor in tensors if not isinstance(tensor, DTensor)]
    return complete, [tensor for tensor in tensors if isinstance(tensor, DTensor)]


def shard(model: Any, device: torch.device, dtype: str) -> None:
    """Cut the weights of `model` over all processes, in place; their passes compute on `device` in `dtype`.

    What is not computed by the model's own pass (a reward model's head) stays whole.
    Raises `CaiError` for a model that does not say what its blocks are.
    """
    root = root_of(model)
    named = set(root._no_split_modules or ())
    blocks = [part for part in root.modules() if type(part).__name__ in named]
    if not blocks:
        unknown = f"{type(model).__name__} does not say what its blocks are (_no_split_modules)"
        raise CaiError(unknown, next="train it without nproc")
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    narrow = dtype == "bfloat16"
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if narrow else None, reduce_dtype=torch.float32 if narrow else None
    )
    # What is inside goes first: a block takes what its own parts have left.
    for part in (*reversed(blocks), root):
        fully_shard(part, mesh=mesh, mp_policy=policy)
        # A sum, not the mean: the loss is divided by the weight of the whole step.
        part.set_gradient_divide_factor(1.0)
        # gloo has no other reduction that would do.
        part.set_force_sum_reduction_for_comms(True)
    for tensor in (*kinds([*model.parameters()])[0], *model.buffers()):
        # A copy: other processes may have theirs in the same memory.
        tensor.data = tensor.data.to(device, copy=True)


def root_of(model: Any) -> Any:
    """The part of a model whose `forward` the trainer calls: see `forward.states`."""
    if model.get_output_embeddings() is not None:
        return model
    return getattr(model, model.base_model_prefix)


def reshard(model: Any) -> None:
    """Drop what a pass without a backward pass has left gathered."""
    for part in model.modules():
        if isinstance(part, FSDPModule):
            part.reshard()


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
