"""Self-play preference optimisation (Wu et al., arXiv 2405.00675)."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from cai.config import key
from cai.objectives import Loss
from cai.objectives._choices import (
    BETA,
    LABEL,
    ChoiceBatch,
    choice_batches,
    choice_steps,
    log_ratios,
    pair_sources,
    prepare_pairs,
    weighted_loss,
    with_reference,
)
from cai.objectives._keys import above_zero
from cai.records import Comparison
from cai.training.data import TOO_LONG, Label, TooLong
from cai.training.models import POLICY, ModelKind


def sppo_loss(a: Tensor, b: Tensor, p: Tensor, beta: float) -> Tensor:
    """(a - (p - 1/2) / beta)^2 + (b - (1/2 - p) / beta)^2 [P] for log ratios `a` and `b` [P]."""
    goal = (p - 0.5) / beta
    return (a - goal).square() + (b + goal).square()


@dataclass(frozen=True, kw_only=True)
class Sppo:
    """Loss of a pair: (h_a - (p - 1/2) / beta)^2 + (h_b - (1/2 - p) / beta)^2, averaged over a step's pairs.

    h = log pi(y) - log pi_ref(y); 1 / beta is the paper's eta. Each log ratio is drawn to how much more often
    than half its answer wins, so the judge's soft p is the native case (the paper's squared loss, with P
    estimated by the judge); "hard" takes p = 1 for the better answer. Self-play is a
    chain of such runs, each from the model of the one before.
    """

    takes: ClassVar[type] = Comparison
    trains: ClassVar[ModelKind] = POLICY

    beta: float = key(0.1, BETA)
    label: Label = key("soft", LABEL)
    too_long: TooLong = key("error", TOO_LONG)

    sources = pair_sources
    prepare = prepare_pairs
    setup = with_reference
    steps = choice_steps
    batches = choice_batches

    def __post_init__(self) -> None:
        above_zero(self, "beta")

    def loss(self, model: Any, batch: ChoiceBatch) -> Loss:
        ratios = log_ratios(model, batch)
        each = sppo_loss(ratios[:, 0], ratios[:, 1], batch.target[:, 0], self.beta)
        return weighted_loss(batch, each, self.beta * ratios, {"ratio": ratios})
