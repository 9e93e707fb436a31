"""Kahneman-Tversky optimisation on single answers (Ethayarajh et al., arXiv 2402.01306)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from cai.chat import Example
from cai.config import key
from cai.errors import CaiError
from cai.objectives import Loss, Step
from cai.objectives._choices import BETA, LABEL
from cai.objectives._keys import above_zero
from cai.objectives._preference import expected
from cai.records import Comparison, assistant
from cai.training.batches import Batch, collate, column, completion_logps
from cai.training.data import (
    TOO_LONG,
    Judged,
    Label,
    Prepared,
    TooLong,
    answered,
    judged,
    labelled,
    prepare,
    shorten,
)
from cai.training.distributed import Group
from cai.training.models import POLICY, ModelKind
from cai.training.plan import count_steps, cut, plan_steps, sizes
from cai.training.reference import reference_logps
from cai.training.settings import TrainSettings


@dataclass(frozen=True, kw_only=True)
class KtoRow:
    """An answer, the probability p that it is one to learn, and another prompt's answer after this prompt.

    `reference` is log p_ref of both answers, once known.
    """

    name: str
    example: Example
    p: float
    weight: float
    mismatched: Example | None = None
    reference: tuple[float, float] | None = None

    @property
    def sequences(self) -> tuple[Example, ...]:
        return (self.example,)

    @property
    def both(self) -> tuple[Example, Example]:
        if self.mismatched is None:
            raise ValueError("the row has no mismatched answer: call prepare first")
        return self.example, self.mismatched

    def shortened(self, count: int, keep: int) -> "KtoRow":
        return replace(self, example=shorten(self.example, count, keep))


@dataclass(frozen=True, kw_only=True)
class KtoBatch:
    batch: Batch  # B sequences
    reference: Tensor  # [B]
    p: Tensor  # [B]
    weights: Tensor  # [B]
    divergence: float  # z0 of the step


def kto_loss(ratios: Tensor, p: Tensor, divergence: float, desirable: float, undesirable: float) -> Tensor:
    """lambda_y - v(y) [B] of the paper's equation 8, averaged over the label: to learn with probability p.

    `ratios` [B] are beta (log pi - log pi_ref) and `divergence` is beta z0. An answer to learn loses
    `desirable` * sigmoid(divergence - ratio), one to unlearn `undesirable` * sigmoid(ratio - divergence).
    """
    gain = torch.sigmoid(ratios - divergence)
    loss = torch.sigmoid(divergence - ratios)
    return expected(desirable * loss, undesirable * gain, p)


@dataclass(frozen=True, kw_only=True)
class Kto:
    """Loss of one answer, averaged over a step's answers; no pairs are needed, the sides of one count singly.

    To learn: `desirable` * sigmoid(beta (z0 - h)); to unlearn: `undesirable` * sigmoid(beta (h - z0)), with
    h = log pi(y) - log pi_ref(y). A soft label p averages the two; a comparison gives its best candidate with
    p and its worst with 1 - p. z0 = max(0, mean of h over mismatched answers) estimates KL(pi || pi_ref) as
    in the paper, where each prompt of a batch is followed by another one's answer. Here that
    batch is the whole optimizer step, in all processes, so that neither micro-batches nor processes change
    the loss; z0 has no gradient; and an answer's prompt is the same one in every epoch.
    """

    takes: ClassVar[type] = Comparison
    trains: ClassVar[ModelKind] = POLICY

    beta: float = key(0.1, BETA)
    desirable: float = key(1.0, "how much an answer to learn counts")
    undesirable: float = key(1.0, "how much an answer to unlearn counts")
    label: Label = key("soft", LABEL)
    too_long: TooLong = key("error", TOO_LONG)

    def __post_init__(self) -> None:
        for name in ("beta", "desirable", "undesirable"):
            above_zero(self, name)

    def sources(
        self, rows: Iterable[Comparison], weight: float = 1.0
    ) -> tuple[list[Judged], Mapping[str, int]]:
        return judged(rows, weight)

    def prepare(self, sources: Sequence[Judged], tokenizer: Any, limit: int) -> Prepared[KtoRow]:
        def encode(source: Judged) -> KtoRow:
            example = answered(tokenizer, (*source.prompt, assistant(source.answer)))
            p = labelled((source.p, 1 - source.p), self.label)[0]
            return KtoRow(name=source.id, example=example, p=p, weight=source.weight)

        data = prepare(sources, encode, tokenizer=tokenizer, limit=limit, too_long=self.too_long)
        return replace(data, rows=_mismatched(data.rows, limit))

    def setup(self, model: Any, data: Prepared[KtoRow], cache: Path, group: Group) -> Prepared[KtoRow]:
        """Attach the reference log-probabilities: of the model as it starts, computed once."""
        sums = iter(
            reference_logps(model, [example for row in data.rows for example in row.both], cache, group)
        )
        return replace(
            data, rows=tuple(replace(row, reference=(next(sums), next(sums))) for row in data.rows)
        )

    def steps(self, data: Prepared[KtoRow], settings: TrainSettings) -> int:
        return count_steps(*sizes(data.rows), settings)

    def batches(
        self, model: Any, data: Prepared[KtoRow], settings: TrainSettings, group: Group, start: int
    ) -> Iterator[Step[KtoBatch]]:
        lengths, names = sizes(data.rows)
        for micros in islice(plan_steps(lengths, names, settings), start, None):
            dealt = [[data.rows[at] for at in micro] for micro in cut(micros, group.world, lengths)]
            divergence = _divergence(model, dealt, group)
            weight = sum(data.rows[at].weight for micro in micros for at in micro)
            yield Step.of(dealt, weight, group, partial(_collate, divergence=divergence, model=model))

    def loss(self, model: Any, batch: KtoBatch) -> Loss:
        logps, _ = completion_logps(model, batch.batch)
        ratios = logps - batch.reference
        weights = (self.desirable, self.undesirable)
        each = kto_loss(self.beta * ratios, batch.p, self.beta * batch.divergence, *weights)
        with torch.no_grad():
            ahead = ratios - batch.divergence
            right = (1 + torch.sign(ahead) * torch.sign(batch.p - 0.5)) / 2
            metrics = {
                "accuracy": float((batch.weights * right).sum()),
                "margin": float((batch.weights * (2 * batch.p - 1) * self.beta * ahead).sum()),
                "divergence": float(batch.weights.sum()) * batch.divergence,
            }
        total = (batch.weights * each).sum()
        return Loss(total=total, metrics=metrics, names=batch.batch.names, tokens=batch.batch.tokens)


def _mismatched(rows: Sequence[KtoRow], limit: int) -> tuple[KtoRow, ...]:
    """Each row with the answer of the next row that has another prompt and fits into the context after it."""
    found = []
    for at, row in enumerate(rows):
        prompt, _ = _split(row.example)
        others = (_split(rows[(at + step) % len(rows)].example) for step in range(1, len(rows)))
        answer = next((a for p, a in others if p != prompt and len(prompt) + len(a) <= limit), None)
        if answer is None:
            alone = "no other prompt's answer fits after this prompt, and kto measures its divergence on them"
            raise CaiError(alone, where=f"row {row.name}", next="give rows of several prompts, or use dpo")
        mask = (False,) * len(prompt) + (True,) * len(answer)
        found.append(replace(row, mismatched=Example(ids=(*prompt, *answer), mask=mask)))
    return tuple(found)


def _split(example: Example) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Ids of the prompt and of the answer with its end-of-turn."""
    start = example.mask.index(True)
    return example.ids[:start], example.ids[start:]


def _divergence(model: Any, micros: Sequence[Sequence[KtoRow]], group: Group) -> float:
    """z0 of a step of `micros`; each process computes its share."""
    mine = [ratio for rows in group.share(micros) for ratio in _mismatched_ratios(model, rows)]
    for rows in group.idle(micros):
        _mismatched_ratios(model, rows)
    everywhere = [ratio for part in group.gather(mine) for ratio in part]
    return max(0.0, sum(everywhere) / len(everywhere))


@torch.no_grad()
def _mismatched_ratios(model: Any, rows: Sequence[KtoRow]) -> list[float]:
    batch = collate([row.both[1] for row in rows], [row.name for row in rows], model.device)
    logps, _ = completion_logps(model, batch)
    ratios: list[float] = (logps - column([_known(row)[1] for row in rows], model)).tolist()
    return ratios


def _known(row: KtoRow) -> tuple[float, float]:
    if row.reference is None:
        raise ValueError("the reference log-probabilities are missing: call setup first")
    return row.reference


def _collate(rows: Sequence[KtoRow], divergence: float, model: Any) -> KtoBatch:
    return KtoBatch(
        batch=collate([row.example for row in rows], [row.name for row in rows], model.device),
        reference=column([_known(row)[0] for row in rows], model),
        p=column([row.p for row in rows], model),
        weights=column([row.weight for row in rows], model),
        divergence=divergence,
    )
