"""Supervised fine-tuning: maximise the log-probability of the assistant's tokens."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from cai.chat import Example, TrainOn
from cai.config import key
from cai.objectives import Loss, Step
from cai.records import Record
from cai.training.batches import Batch, collate, column, token_logps
from cai.training.data import (
    TOO_LONG,
    Conversation,
    LearnFrom,
    Prepared,
    TooLong,
    answered,
    conversations,
    prepare,
    shorten,
)
from cai.training.distributed import Group
from cai.training.models import POLICY, ModelKind
from cai.training.plan import count_steps, cut, plan_steps, sizes
from cai.training.settings import TrainSettings


@dataclass(frozen=True, kw_only=True)
class SftRow:
    """A tokenised conversation and the weight of its tokens."""

    name: str
    example: Example
    weight: float

    @property
    def sequences(self) -> tuple[Example, ...]:
        return (self.example,)

    def shortened(self, count: int, keep: int) -> "SftRow":
        return replace(self, example=shorten(self.example, count, keep))

    @property
    def scored(self) -> int:
        return sum(self.example.mask)


@dataclass(frozen=True, kw_only=True)
class SftBatch:
    batch: Batch
    weights: Tensor  # [B]


@dataclass(frozen=True, kw_only=True)
class Sft:
    """Loss: - sum_t w log p(y_t | x, y_<t) / sum_t w over all trained tokens t of a step, w the row's weight.

    `train_on`: the last assistant turn of each conversation or all of them. `learn_from`: a record's last
    answer or all its distinct revisions. `too_long`: a row beyond the model's context is an error, is
    skipped and counted, or loses the beginning of its prompt and is counted.
    """

    takes: ClassVar[type] = Record
    trains: ClassVar[ModelKind] = POLICY

    train_on: TrainOn = key("last", "learn the last assistant turn of a conversation, or all")
    learn_from: LearnFrom = key("last", "learn a record's last answer, or all its revisions")
    too_long: TooLong = key("error", TOO_LONG)

    def sources(
        self, rows: Iterable[Record], weight: float = 1.0
    ) -> tuple[list[Conversation], Mapping[str, int]]:
        return conversations(rows, self.learn_from, weight)

    def prepare(self, sources: Sequence[Conversation], tokenizer: Any, limit: int) -> Prepared[SftRow]:
        def encode(source: Conversation) -> SftRow:
            example = answered(tokenizer, source.messages, self.train_on)
            return SftRow(name=source.id, example=example, weight=source.weight)

        return prepare(sources, encode, tokenizer=tokenizer, limit=limit, too_long=self.too_long)

    def setup(self, model: Any, data: Prepared[SftRow], cache: Path, group: Group) -> Prepared[SftRow]:
        return data

    def steps(self, data: Prepared[SftRow], settings: TrainSettings) -> int:
        return count_steps(*sizes(data.rows), settings)

    def batches(
        self, model: Any, data: Prepared[SftRow], settings: TrainSettings, group: Group, start: int
    ) -> Iterator[Step[SftBatch]]:
        lengths, names = sizes(data.rows)
        for micros in islice(plan_steps(lengths, names, settings), start, None):
            weight = sum(data.rows[at].weight * data.rows[at].scored for micro in micros for at in micro)
            dealt = [[data.rows[at] for at in micro] for micro in cut(micros, group.world, lengths)]
            yield Step.of(dealt, weight, group, partial(sft_batch, model=model))

    def loss(self, model: Any, batch: SftBatch) -> Loss:
        logps = token_logps(model, batch.batch)
        total = -(logps * batch.weights[batch.batch.rows]).sum()
        return Loss(total=total, metrics={}, names=batch.batch.names, tokens=batch.batch.tokens)


def sft_batch(rows: Sequence[SftRow], model: Any) -> SftBatch:
    """The rows as one batch on the model's device."""
    batch = collate([row.example for row in rows], [row.name for row in rows], model.device)
    return SftBatch(batch=batch, weights=column([row.weight for row in rows], model))
