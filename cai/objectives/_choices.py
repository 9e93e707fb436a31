"""What the preference objectives share: rows of K answers to one prompt, as batches and as a loss."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from cai.chat import Example
from cai.objectives import Loss, Step
from cai.records import Comparison, Messages, assistant
from cai.training.batches import Batch, collate, column, completion_logps
from cai.training.data import (
    Choice,
    Label,
    Preference,
    Prepared,
    TooLong,
    Unusable,
    answered,
    choices,
    labelled,
    preferences,
    prepare,
    shorten,
)
from cai.training.distributed import Group
from cai.training.plan import count_steps, cut, plan_steps, sizes
from cai.training.reference import reference_logps
from cai.training.settings import TrainSettings

Per = Literal["answer", "token"]

BETA = "how strongly the model is held to where it starts"
LABEL = "learn the judge's probability, or its verdict"
PER = "log-probabilities of an answer: their sum, or their mean per token"


@dataclass(frozen=True, kw_only=True)
class ChoiceRow:
    """K tokenised answers to one prompt, the label of each, and its log p_ref once known."""

    name: str
    answers: tuple[Example, ...]
    target: tuple[float, ...]
    weight: float
    reference: tuple[float, ...] | None = None

    @property
    def sequences(self) -> tuple[Example, ...]:
        return self.answers

    def shortened(self, count: int, keep: int) -> "ChoiceRow":
        return replace(self, answers=tuple(shorten(answer, count, keep) for answer in self.answers))


@dataclass(frozen=True, kw_only=True)
class ChoiceBatch:
    """G rows as N sequences, the answers of a row side by side; `present` says how many each row has."""

    batch: Batch  # B = N
    present: Tensor  # [G, K] bool, K the most answers of a row
    target: Tensor  # [G, K], 0 where there is no answer
    reference: Tensor | None  # [G, K]
    weights: Tensor  # [G]

    def table(self, values: Tensor) -> Tensor:
        """One value a sequence [N] as one row a row [G, K], 0 where there is no answer."""
        return values.new_zeros(self.present.shape).masked_scatter(self.present, values)


class Labelled(Protocol):
    """The keys of an objective that decide how its rows are made."""

    @property
    def label(self) -> Label: ...
    @property
    def too_long(self) -> TooLong: ...


def pair_sources(
    objective: Labelled, rows: Iterable[Comparison], weight: float = 1.0
) -> tuple[list[Preference], Mapping[str, int]]:
    """`Objective.sources` of pairs: the best candidate of each comparison against its worst."""
    return preferences(rows, weight)


def choice_sources(
    objective: Labelled, rows: Iterable[Comparison], weight: float = 1.0
) -> tuple[list[Choice], Mapping[str, int]]:
    """`Objective.sources` of all K candidates of each comparison, best first."""
    return choices(rows, weight)


def prepare_pairs(
    objective: Labelled, sources: Sequence[Preference], tokenizer: Any, limit: int
) -> Prepared[ChoiceRow]:
    """`Objective.prepare` of pairs: rows with K = 2."""

    def encode(source: Preference) -> ChoiceRow:
        sides, label = (source.a, source.b), (source.p_a, 1 - source.p_a)
        return _row(objective, tokenizer, source.id, source.prompt, sides, label, source.weight)

    return prepare(sources, encode, tokenizer=tokenizer, limit=limit, too_long=objective.too_long)


def prepare_choices(
    objective: Labelled, sources: Sequence[Choice], tokenizer: Any, limit: int
) -> Prepared[ChoiceRow]:
    """`Objective.prepare` of K candidates."""

    def encode(source: Choice) -> ChoiceRow:
        answers, label = source.answers, source.probabilities
        return _row(objective, tokenizer, source.id, source.prompt, answers, label, source.weight)

    return prepare(sources, encode, tokenizer=tokenizer, limit=limit, too_long=objective.too_long)


def as_it_is(
    objective: Labelled, model: Any, data: Prepared[ChoiceRow], cache: Path, group: Group
) -> Prepared[ChoiceRow]:
    """`Objective.setup` of an objective that needs no reference."""
    return data


def with_reference(
    objective: Labelled, model: Any, data: Prepared[ChoiceRow], cache: Path, group: Group
) -> Prepared[ChoiceRow]:
    """`Objective.setup` that attaches log p_ref: of the model as it starts, computed once."""
    sums = iter(reference_logps(model, [answer for row in data.rows for answer in row.answers], cache, group))
    rows = tuple(replace(row, reference=tuple(islice(sums, len(row.answers)))) for row in data.rows)
    return replace(data, rows=rows)


def choice_steps(objective: Labelled, data: Prepared[ChoiceRow], settings: TrainSettings) -> int:
    """`Objective.steps`."""
    return count_steps(*sizes(data.rows), settings)


def choice_batches(
    objective: Labelled,
    model: Any,
    data: Prepared[ChoiceRow],
    settings: TrainSettings,
    group: Group,
    start: int,
) -> Iterator[Step[ChoiceBatch]]:
    """`Objective.batches`; a step's loss is divided by the weight of its rows."""
    lengths, names = sizes(data.rows)
    for micros in islice(plan_steps(lengths, names, settings), start, None):
        weight = sum(data.rows[at].weight for micro in micros for at in micro)
        dealt = [[data.rows[at] for at in micro] for micro in cut(micros, group.world, lengths)]
        yield Step.of(dealt, weight, group, partial(_collate, model=model))


def answer_logps(model: Any, batch: ChoiceBatch, per: Per = "answer") -> Tensor:
    """Log-probability [G, K] of each answer with its end-of-turn, or its mean per token."""
    sums, counts = completion_logps(model, batch.batch)
    return batch.table(sums if per == "answer" else sums / counts)


def log_ratios(model: Any, batch: ChoiceBatch, per: Per = "answer") -> Tensor:
    """log pi(y) - log pi_ref(y) [G, K] of each answer, or its mean per token."""
    if batch.reference is None:
        raise ValueError("the reference log-probabilities are missing: call setup first")
    sums, counts = completion_logps(model, batch.batch)
    ratios = batch.table(sums) - batch.reference
    return ratios if per == "answer" else ratios / batch.table(counts.to(ratios.dtype)).clamp(min=1)


def weighted_loss(batch: ChoiceBatch, each: Tensor, scores: Tensor, beside: Mapping[str, Tensor]) -> Loss:
    """The rows' losses `each` [G], weighted, with metrics.

    `scores` [G, K] are what the objective orders the answers by. "accuracy" is the share of a row's pairs
    that they order as the label does (equal ones on either side are half right), "margin" the first
    answer's score above the mean of the others. For every table [G, K] of `beside`, NAME_a and NAME_b are
    its first answer's value and the mean of the others'.
    """
    with torch.no_grad():
        tables = {"margin": scores, **beside}
        sides = {name: _sides(table, batch.present) for name, table in tables.items()}
        first, others = sides.pop("margin")
        values = {"accuracy": _agreement(scores, batch.target, batch.present), "margin": first - others}
        for name, (a, b) in sides.items():
            values |= {f"{name}_a": a, f"{name}_b": b}
        metrics = {name: float((batch.weights * value).sum()) for name, value in values.items()}
    total = (batch.weights * each).sum()
    return Loss(total=total, metrics=metrics, names=batch.batch.names, tokens=batch.batch.tokens)


def _sides(table: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """The first answer's value [G], and the mean [G] of the others'."""
    others = (table * present)[:, 1:].sum(1) / (present.sum(1) - 1)
    return table[:, 0], others


def _agreement(scores: Tensor, target: Tensor, present: Tensor) -> Tensor:
    """The share [G] of pairs of answers that `scores` and `target` [G, K] put in the same order."""
    upper = torch.ones_like(present[:1].mT & present[:1]).triu(1)
    pairs = (present.unsqueeze(2) & present.unsqueeze(1) & upper).to(scores.dtype)
    by_scores, by_label = (torch.sign(table.unsqueeze(2) - table.unsqueeze(1)) for table in (scores, target))
    return ((1 + by_scores * by_label) / 2 * pairs).sum((1, 2)) / pairs.sum((1, 2))


def _row(
    objective: Labelled,
    tokenizer: Any,
    name: str,
    prompt: Messages,
    answers: Sequence[str],
    probabilities: Sequence[float],
    weight: float,
) -> ChoiceRow:
    examples = tuple(answered(tokenizer, (*prompt, assistant(answer))) for answer in answers)
    if len(set(examples)) == 1:
        raise Unusable("equal sides after tokenising")
    target = labelled(probabilities, objective.label)
    return ChoiceRow(name=name, answers=examples, target=target, weight=weight)


def _collate(rows: Sequence[ChoiceRow], model: Any) -> ChoiceBatch:
    width = max(len(row.answers) for row in rows)
    present = [[at < len(row.answers) for at in range(width)] for row in rows]
    batch = collate(
        [answer for row in rows for answer in row.answers], [row.name for row in rows], model.device
    )
    references = [row.reference for row in rows]
    known = [reference for reference in references if reference is not None]
    return ChoiceBatch(
        batch=batch,
        present=torch.tensor(present, device=model.device),
        target=_table([row.target for row in rows], width, model),
        reference=_table(known, width, model) if len(known) == len(rows) else None,
        weights=column([row.weight for row in rows], model),
    )


def _table(rows: Sequence[tuple[float, ...]], width: int, model: Any) -> Tensor:
    """Numbers [G, width] beside a batch, 0 past a row's end."""
    flat = [value for row in rows for value in (*row, *[0.0] * (width - len(row)))]
    return column(flat, model).view(len(rows), width)
