"""Several processes as one: each computes its share of a step, gradients are summed, all step alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Group:
    """The processes of a training run; rank 0 writes its files."""

    rank: int = 0
    world: int = 1

    def share(self, micros: Sequence[T]) -> Sequence[T]:
        """This process's part: items `rank`, `rank + world`, ..."""
        return micros[self.rank :: self.world]

    def add_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Replace every gradient by its sum over all processes."""
        if self.world == 1:
            return
        for parameter in parameters:
            if parameter.grad is None:
                # A process without a micro-batch in this step still takes part in the sum.
                parameter.grad = torch.zeros_like(parameter)
        flat = torch.cat([parameter.grad.flatten() for parameter in parameters])  # type: ignore[union-attr]
        dist.all_reduce(flat)
        sizes = [parameter.numel() for parameter in parameters]
        for parameter, piece in zip(parameters, torch.split(flat, sizes), strict=True):
            parameter.grad.copy_(piece.view_as(parameter))  # type: ignore[union-attr]

    def gather(self, mine: T) -> list[T]:
        """What every process has, in the order of the ranks."""
        if self.world == 1:
            return [mine]
        gathered: list[Any] = [None] * self.world
        dist.all_gather_object(gathered, mine)
        return gathered

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.world > 1:
            dist.barrier()


ALONE = Group()
