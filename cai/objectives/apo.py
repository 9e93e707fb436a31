"""Anchored preference optimisation (D'Oosterlinck et al., arXiv 2408.06266)."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
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
from cai.objectives._preference import expected
from cai.records import Comparison
from cai.training.data import TOO_LONG, Label, TooLong
from cai.training.models import POLICY, ModelKind


def apo_zero_loss(better: Tensor, worse: Tensor) -> Tensor:
    """- sigmoid(better) + sigmoid(worse) [P] for implicit rewards [P]: the better rises, the worse falls."""
    return torch.sigmoid(worse) - torch.sigmoid(better)


def apo_down_loss(better: Tensor, worse: Tensor) -> Tensor:
    """sigmoid(better) - sigmoid(better - worse) [P] for implicit rewards [P]: both fall, the worse faster."""
    return torch.sigmoid(better) - torch.sigmoid(better - worse)


VARIANTS = {"zero": apo_zero_loss, "down": apo_down_loss}


@dataclass(frozen=True, kw_only=True)
class Apo:
    """Loss of a pair with implicit rewards r = beta (log pi - log pi_ref), averaged over a step's pairs.

    `variant` "zero": - sigmoid(r_w) + sigmoid(r_l), for answers better than the model's own; "down":
    sigmoid(r_w) - sigmoid(r_w - r_l), for answers worse than those (equations 7 and 8 of the paper,
    without the constants that some trainers add). A soft label averages the loss over which of the two is w.
    """

    takes: ClassVar[type] = Comparison
    trains: ClassVar[ModelKind] = POLICY

    variant: Literal["zero", "down"] = key(
        "zero", "the better answer's likelihood shall rise (zero) or fall (down)"
    )
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
        a, b = (self.beta * ratios).unbind(1)
        formula = VARIANTS[self.variant]
        each = expected(formula(a, b), formula(b, a), batch.target[:, 0])
        return weighted_loss(batch, each, self.beta * ratios, {"ratio": ratios})
