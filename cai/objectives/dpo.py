"""Direct preference optimisation (Rafailov et al., arXiv 2305.18290), with soft labels as the native case."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from cai.chat import Example
from cai.config import key
from cai.objectives import Loss, Step
from cai.records import Comparison, assistant
from cai.training.batches import Batch, collate, column, completion_logps
from cai.training.data import (
    Preference,
    Prepared,
    TooLong,
    Unusable,
    answered,
    preferences,
    prepare,
)
from cai.training.distributed import Group
from cai.training.models import POLICY, ModelKind
from cai.training.plan import count_steps, cut, plan_steps
from cai.training.reference import reference_logps
from cai.training.settings import TrainSettings


@dataclass(frozen=True, kw_only=True)
class DpoRow:
    """Two tokenised answers to one prompt, the label p(a is better), and log p_ref of both once known."""

    name: str
    a: Example
    b: Example
    p_a: float
    weight: float
    reference: tuple[float, float] | None = None

    @property
    def sequences(self) -> tuple[Example, ...]:
        return (self.a, self.b)


@dataclass(frozen=True, kw_only=True)
class DpoBatch:
    """P pairs as 2P sequences, all a first, then all b in the same order."""

    batch: Batch  # B = 2P
    reference: Tensor  # [2P]
    p_a: Tensor  # [P]
    weights: Tensor  # [P]


@dataclass(frozen=True, kw_only=True)
class Dpo:
    """Loss of a pair: -p log sigmoid(beta d) - (1 - p) log sigmoid(-beta d), averaged over a step's pairs.

    d = (log pi(a) - log pi_ref(a)) - (log pi(b) - log pi_ref(b)), each the sum over the answer's tokens and
    its end-of-turn; pi_ref is the model as training starts. `label` "soft" takes p from the comparison,
    "hard" takes 1 for the better answer; with hard labels this is equation 7 of the paper. `too_long`: a
    row beyond the model's context is an error, or is skipped and counted.
    """

    takes: ClassVar[type] = Comparison
    trains: ClassVar[ModelKind] = POLICY

    beta: float = key(0.1, "how strongly the model is held to where it starts")
    label: Literal["soft", "hard"] = key("soft", "learn the judge's probability, or its verdict")
    too_long: TooLong = key("error", "rows beyond the model's context: error or skip")

    def __post_init__(self) -> None:
        if not 0 < self.beta < float("inf"):
            raise ValueError(f"'beta' is {self.beta}; it must be above 0")

    def sources(
        self, rows: Iterable[Comparison], weight: float = 1.0
    ) -> tuple[list[Preference], Mapping[str, int]]:
        return preferences(rows, weight)

    def prepare(self, sources: Sequence[Preference], tokenizer: Any, limit: int) -> Prepared[DpoRow]:
        def encode(source: Preference) -> DpoRow:
            a = answered(tokenizer, (*source.prompt, assistant(source.a)))
            b = answered(tokenizer, (*source.prompt, assistant(source.b)))
            if a == b:
                raise Unusable("equal sides after tokenising")
            p_a = self._label(source.p_a)
            return DpoRow(name=source.id, a=a, b=b, p_a=p_a, weight=source.weight)

        return prepare(sources, encode, tokenizer=tokenizer, limit=limit, too_long=self.too_long)

    def _label(self, p_a: float) -> float:
        if not 0 <= p_a <= 1:
            raise Unusable("label is no probability")
        if self.label == "soft":
            return p_a
        if p_a == 0.5:
            raise Unusable("tie")
        return float(p_a > 0.5)

    def setup(self, model: Any, data: Prepared[DpoRow], cache: Path, group: Group) -> Prepared[DpoRow]:
        """Attach the reference log-probabilities: of the model as it starts, computed once."""
        sums = reference_logps(
            model, [example for row in data.rows for example in row.sequences], cache, group
        )
        pairs = zip(data.rows, sums[::2], sums[1::2], strict=True)
        return replace(data, rows=tuple(replace(row, reference=(a, b)) for row, a, b in pairs))

    def steps(self, data: Prepared[DpoRow], settings: TrainSettings) -> int:
        return count_steps(*_shape(data), settings, width=2)

    def batches(
        self, model: Any, data: Prepared[DpoRow], settings: TrainSettings, group: Group, start: int
    ) -> Iterator[Step[DpoBatch]]:
        for micros in islice(plan_steps(*_shape(data), settings, width=2), start, None):
            weight = sum(data.rows[at].weight for micro in micros for at in micro)
            mine = [
                _collate([data.rows[at] for at in micro], model)
                for micro in group.share(cut(micros, group.world))
            ]
            yield Step(micros=mine, weight=weight)

    def loss(self, model: Any, batch: DpoBatch) -> Loss:
        logps, _ = completion_logps(model, batch.batch)
        ratios = logps - batch.reference
        a, b = ratios.chunk(2)
        each = soft_preference_loss(self.beta * (a - b), batch.p_a)
        with torch.no_grad():
            # A margin of 0, or a label of one half, is half right.
            right = (1 + torch.sign(a - b) * torch.sign(batch.p_a - 0.5)) / 2
            metrics = {
                "accuracy": float((batch.weights * right).sum()),
                "margin": float((batch.weights * self.beta * (a - b)).sum()),
                "ratio_a": float((batch.weights * a).sum()),
                "ratio_b": float((batch.weights * b).sum()),
            }
        total = (batch.weights * each).sum()
        return Loss(total=total, metrics=metrics, names=batch.batch.names, tokens=batch.batch.tokens)


def soft_preference_loss(margin: Tensor, p: Tensor) -> Tensor:
    """Cross-entropy [P] of a Bradley-Terry model with log-odds `margin` [P] against labels `p` [P]."""
    return -(p * functional.logsigmoid(margin) + (1 - p) * functional.logsigmoid(-margin))


def _shape(data: Prepared[DpoRow]) -> tuple[list[int], list[str]]:
    """Padded lengths and names of the rows, for the plan."""
    return [max(len(row.a.ids), len(row.b.ids)) for row in data.rows], [row.name for row in data.rows]


def _collate(rows: Sequence[DpoRow], model: Any) -> DpoBatch:
    examples = [*(row.a for row in rows), *(row.b for row in rows)]
    reference = [row.reference for row in rows if row.reference is not None]
    if len(reference) < len(rows):
        raise ValueError("the reference log-probabilities are missing: call setup first")
    return DpoBatch(
        batch=collate(examples, [row.name for row in rows], model.device),
        reference=column([a for a, _ in reference] + [b for _, b in reference], model),
        p_a=column([row.p_a for row in rows], model),
        weights=column([row.weight for row in rows], model),
    )
