"""Robust DPO: the loss whose mean under flipped labels is DPO's (Chowdhury et al., arXiv 2403.00409)."""

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
from cai.objectives._keys import above_zero, fraction
from cai.objectives._preference import choice_loss
from cai.records import Comparison
from cai.training.data import TOO_LONG, Label, TooLong
from cai.training.models import POLICY, ModelKind


def unflipped(target: Tensor, flips: float) -> Tensor:
    """Labels [G, 2] before a flip with probability `flips`: (target - flips) / (1 - 2 flips).

    They leave [0, 1] where a label is surer than flips allow; that is what makes the estimate unbiased.
    """
    return (target - flips) / (1 - 2 * flips)


@dataclass(frozen=True, kw_only=True)
class Robust:
    """Loss of a pair: [(1 - e) L(d) - e L(-d)] / (1 - 2 e) with L(d) = - log sigmoid(beta d).

    Averaged over a step's pairs; d is DPO's, and e = `flip_rate` is how often labels are known to be
    flipped. Hard labels give the paper's unbiased loss. It is linear in the label, so a soft label p has a
    natural form, the mean over the label: cross-entropy against (p - e) / (1 - 2 e), the inverse of `dpo`
    with `label_smoothing` = e. Where a label is nearer to 0 or 1 than e, the loss has no lower bound (its
    gradient is bounded by beta / (1 - 2 e)).
    """

    takes: ClassVar[type] = Comparison
    trains: ClassVar[ModelKind] = POLICY

    beta: float = key(0.1, BETA)
    flip_rate: float = key(0.1, "how often labels are flipped, above 0 and below 0.5")
    label: Label = key("soft", LABEL)
    too_long: TooLong = key("error", TOO_LONG)

    sources = pair_sources
    prepare = prepare_pairs
    setup = with_reference
    steps = choice_steps
    batches = choice_batches

    def __post_init__(self) -> None:
        above_zero(self, "beta")
        fraction(self, "flip_rate", above=True)

    def loss(self, model: Any, batch: ChoiceBatch) -> Loss:
        ratios = log_ratios(model, batch)
        each = choice_loss(self.beta * ratios, unflipped(batch.target, self.flip_rate), batch.present)
        return weighted_loss(batch, each, self.beta * ratios, {"ratio": ratios})
