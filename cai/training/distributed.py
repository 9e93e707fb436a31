"""Several processes as one: each computes its share of a step, gradients are summed, all step alike."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
import torch.distributed as dist

from cai.errors import CaiError
from cai.training.models import apart

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Group:
    """The processes of a training run, each with a copy of the model; rank 0 writes its files."""

    sharded: ClassVar[bool] = False

    rank: int = 0
    world: int = 1

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This process's part: items `rank`, `rank + world`, ..."""
        return items[self.rank :: self.world]

    def idle(self, items: Sequence[T]) -> Sequence[T]:
        """Items of others that this process has to compute beside its share, to no effect: none."""
        return ()

    def add_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Replace every gradient by its sum over all processes."""
        if self.world == 1 or not parameters:
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

    def clip(self, parameters: Sequence[torch.nn.Parameter], limit: float) -> float:
        """Scale the gradients down to the norm `limit` if theirs is larger; returns what it was."""
        return float(torch.nn.utils.clip_grad_norm_(parameters, limit))

    def gather(self, mine: T) -> list[T]:
        """What every process has, in the order of the ranks."""
        if self.world == 1:
            return [mine]
        gathered: list[Any] = [None] * self.world
        dist.all_gather_object(gathered, mine)
        return gathered

    def made(self, make: Callable[[], T]) -> list[T]:
        """What every process makes, in the order of the ranks. A `CaiError` in one is raised in all."""
        mine: T | CaiError
        try:
            mine = make()
        except CaiError as error:
            mine = error
        made: list[T] = []
        for theirs in self.gather(mine):
            if isinstance(theirs, CaiError):
                raise theirs
            made.append(theirs)
        return made

    def wait(self) -> None:
        """Return when every process has come here."""
        self.gather(None)

    def gathered(self, model: Any) -> AbstractContextManager[Any]:
        """Inside, the model (or what `frozen` gave) with all of its weights here: it computes without the
        other processes. It is not for learning from.
        """
        return nullcontext(model)

    def frozen(self, model: Any) -> Any:
        """The model as it is now, however it learns from here on, for `gathered`."""
        return apart(model).requires_grad_(False)


ALONE = Group()
