"""EXO on K candidates with the judge's own probabilities as the target (Ji et al., arXiv 2402.00856)."""

from dataclasses import dataclass
from typing import Any, ClassVar

from cai.config import key
from cai.objectives import Loss
from cai.objectives._choices import (
    BETA,
    LABEL,
    ChoiceBatch,
    choice_batches,
    choice_sources,
    choice_steps,
    log_ratios,
    prepare_choices,
    weighted_loss,
    with_reference,
)
from cai.objectives._keys import above_zero, fraction
from cai.objectives._preference import smoothed
from cai.objectives.exo import exo_loss
from cai.records import Comparison
from cai.training.data import TOO_LONG, Label, TooLong
from cai.training.models import POLICY, ModelKind


@dataclass(frozen=True, kw_only=True)
class ExoRw:
    """Loss of a row of K candidates: KL(softmax(beta h) || q'), averaged over a step's rows.

    h_k = log pi(y_k) - log pi_ref(y_k). The target q is the comparison's probabilities over its candidates
    ("soft"; EXO-rw of the paper, where q is the softmax of a reward) or 1 for the best ("hard");
    q' = (1 - K e) q + e with e = `label_smoothing` keeps it off 0, where the divergence is infinite. With two
    candidates it is `exo`.
    """

    takes: ClassVar[type] = Comparison
    trains: ClassVar[ModelKind] = POLICY

    beta: float = key(0.1, BETA)
    label_smoothing: float = key(1e-3, "the least label of a candidate, above 0 and below 1 / K")
    label: Label = key("soft", LABEL)
    too_long: TooLong = key("error", TOO_LONG)

    sources = choice_sources
    prepare = prepare_choices
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
