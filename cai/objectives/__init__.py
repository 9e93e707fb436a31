"""What a step learns from. The loop knows no objective by name.

An objective is a frozen keyword-only dataclass whose fields are its TOML keys; one file adds one. It holds
no state: what it needs beside the model (reference log-probabilities, say) `setup` puts into the data it
returns, and what must happen with the live model in between (rollouts) happens inside `batches`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from torch import Tensor

from cai.training.data import Prepared
from cai.training.distributed import Group
from cai.training.models import ModelKind
from cai.training.settings import TrainSettings

T = TypeVar("T")
BatchT = TypeVar("BatchT")


@dataclass(frozen=True, kw_only=True)
class Step(Generic[BatchT]):
    """One optimizer step: this process's micro-batches, and what the summed loss is divided by.

    `weight` is known before any forward pass (scored tokens, pairs), so cutting a step into more micro-
    batches or over more processes leaves its gradient as it is. `idle` are micro-batches of others that it
    computes to no effect (`Group.idle`).
    """

    micros: Sequence[BatchT]
    weight: float
    idle: Sequence[BatchT] = ()

    @classmethod
    def of(
        cls, micros: Sequence[T], weight: float, group: Group, batch: Callable[[T], BatchT]
    ) -> "Step[BatchT]":
        """This process's part of a step of `micros`, of each of which `batch` makes a micro-batch."""
        mine, idle = ([batch(micro) for micro in some] for some in (group.share(micros), group.idle(micros)))
        return cls(micros=mine, weight=weight, idle=idle)


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Of one micro-batch: the loss `total` (a scalar with gradient) and metrics, all summed, not averaged.

    `names` are the rows behind it and `tokens` counts the real tokens of its forward pass.
    """

    total: Tensor
    metrics: Mapping[str, float]
    names: Sequence[str]
    tokens: int


class Objective(Protocol):
    """The contract. `takes` is the kind of row it reads (`Record` or `Comparison`), `trains` of model.

    One that samples rows on its way (`folder`/samples) says what they are: `leaves = Record`.
    """

    takes: ClassVar[type]
    trains: ClassVar[ModelKind]

    def sources(self, rows: Iterable[Any], weight: float = 1.0) -> tuple[list[Any], Mapping[str, int]]:
        """What is learned from rows of a run's files, and how many were left out by reason."""
        ...

    def prepare(self, sources: Sequence[Any], tokenizer: Any, limit: int) -> Prepared[Any]:
        """Tokenise for a context of `limit` tokens."""
        ...

    def setup(self, model: Any, data: Prepared[Any], cache: Path, group: Group) -> Prepared[Any]:
        """Called once before the first step, with the model as it starts; may keep files under `cache`.

        Every process calls it; what it computes may be shared out over the `group`.
        """
        ...

    def steps(self, data: Prepared[Any], settings: TrainSettings) -> int:
        """How many optimizer steps `batches` will yield from the start."""
        ...

    def batches(
        self, model: Any, data: Prepared[Any], settings: TrainSettings, group: Group, start: int
    ) -> Iterator[Step[Any]]:
        """The optimizer steps from number `start` (from 0) on: the same ones an unbroken run would see.

        Of the micro-batches of a step this process gets its `group.share`, and `group.idle`.
        """
        ...

    def loss(self, model: Any, batch: Any) -> Loss:
        """The loss of one micro-batch."""
        ...
