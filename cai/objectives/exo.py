"""Efficient exact optimisation on pairs: DPO's divergence reversed (Ji et al., arXiv 2402.00856)."""

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
from cai.objectives._preference import log_choice, smoothed
from cai.records import Comparison
from cai.training.data import TOO_LONG, Label, TooLong
from cai.training.models import POLICY, ModelKind


def exo_loss(scores: Tensor, target: Tensor, present: Tensor) -> Tensor:
    """KL(softmax(scores) || target) [G] over K candidates; every candidate's target is above 0."""
    chosen = log_choice(scores, present)
    # Who is not there is chosen with probability 0, whatever log_choice says of him.
    gap = chosen - target.masked_fill(~present, 1.0).log()
    return (chosen.exp() * gap * present).sum(-1)


@dataclass(frozen=True, kw_only=True)
class Exo:
    """Loss of a pair: KL((s, 1 - s) || (q, 1 - q)) with s = sigmoid(beta d), averaged over a step's pairs.

    d is DPO's; q = p + (1 - 2 p) e, and e = `label_smoothing` keeps it off 0 and 1, where the divergence is
    infinite. Hard labels give EXO-pref of the paper (equation 16); the soft label is its natural form, the
    target of the divergence. Unlike DPO's it seeks the mode: a hopeless pair pushes no more.
    """

    takes: ClassVar[type] = Comparison
    trains: ClassVar[ModelKind] = POLICY

    beta: float = key(0.1, BETA)
    label_smoothing: float = key(1e-3, "the chance that a label is flipped, above 0 and below 0.5")
    label: Label = key("soft", LABEL)
    too_long: TooLong = key("error", TOO_LONG)

    sources = pair_sources
    prepare = prepare_pairs
    setup = with_reference
    steps = choice_steps
    batches = choice_batches

    def __post_init__(self) -> None:
        above_zero(self, "beta")
        fraction(self, "label_smoothing", above=True)

    def loss(self, model: Any, batch: ChoiceBatch) -> Loss:
        ratios = log_ratios(model, batch)
        target = smoothed(batch.target, batch.present, self.label_smoothing)
        each = exo_loss(self.beta * ratios, target, batch.present)
        return weighted_loss(batch, each, self.beta * ratios, {"ratio": ratios})
