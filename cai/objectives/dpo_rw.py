"""DPO on K candidates with the judge's own probabilities as the target (Ji et al., arXiv 2402.00856)."""

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
from cai.objectives._keys import above_zero
from cai.objectives._preference import choice_loss
from cai.records import Comparison
from cai.training.data import TOO_LONG, Label, TooLong
from cai.training.models import POLICY, ModelKind


@dataclass(frozen=True, kw_only=True)
class DpoRw:
    """Loss of a row of K candidates: - sum_k q_k log softmax_k(beta h), averaged over a step's rows.

    h_k = log pi(y_k) - log pi_ref(y_k). The target q is the comparison's probabilities over its candidates
    ("soft"; DPO-rw of the paper, where q is the softmax of a reward) or 1 for the best ("hard"): the forward
    divergence KL(q || pi's choice) up to a constant. With two candidates it is `dpo`.
    """

    takes: ClassVar[type] = Comparison
    trains: ClassVar[ModelKind] = POLICY

    beta: float = key(0.1, BETA)
    label: Label = key("soft", LABEL)
    too_long: TooLong = key("error", TOO_LONG)

    sources = choice_sources
    prepare = prepare_choices
    setup = with_reference
    steps = choice_steps
    batches = choice_batches

    def __post_init__(self) -> None:
        above_zero(self, "beta")

    def loss(self, model: Any, batch: ChoiceBatch) -> Loss:
        ratios = log_ratios(model, batch)
        each = choice_loss(self.beta * ratios, batch.target, batch.present)
        return weighted_loss(batch, each, self.beta * ratios, {"ratio": ratios})
