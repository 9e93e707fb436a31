"""Direct preference optimisation (Rafailov et al., arXiv 2305.18290), with soft labels as the native case."""

from dataclasses import dataclass
from typing import Any, ClassVar

from cai.config import key
from cai.objectives import Loss
from cai.objectives._choices import (
    BETA,
    LABEL,
    PER,
    ChoiceBatch,
    Per,
    choice_batches,
    choice_steps,
    log_ratios,
    pair_sources,
    prepare_pairs,
    weighted_loss,
    with_reference,
)
from cai.objectives._keys import above_zero, fraction
from cai.objectives._preference import choice_loss, smoothed
from cai.records import Comparison
from cai.training.data import TOO_LONG, Label, TooLong
from cai.training.models import POLICY, ModelKind


@dataclass(frozen=True, kw_only=True)
class Dpo:
    """Loss of a pair: -q log sigmoid(beta d) - (1 - q) log sigmoid(-beta d), averaged over a step's pairs.

    d = (log pi(a) - log pi_ref(a)) - (log pi(b) - log pi_ref(b)), each the sum over the answer's tokens and
    its end-of-turn; pi_ref is the model as training starts. With `per` = "token" each is divided by the
    answer's length (length-normalised DPO: Lambert et al., arXiv 2411.15124; beta is then some
    tens of times as large).
    `label` "soft" takes p from the comparison, "hard" takes 1 for the better answer; q = p + (1 - 2 p) e
    with e = `label_smoothing`, the chance that a label is flipped. Hard labels give equation 7 of the paper,
    and with e > 0 conservative DPO (E. Mitchell, "A note on DPO with noisy preferences", 2023).
    """

    takes: ClassVar[type] = Comparison
    trains: ClassVar[ModelKind] = POLICY

    beta: float = key(0.1, BETA)
    label: Label = key("soft", LABEL)
    label_smoothing: float = key(0.0, "the chance that a label is flipped, below 0.5")
    per: Per = key("answer", PER)
    too_long: TooLong = key("error", TOO_LONG)

    sources = pair_sources
    prepare = prepare_pairs
    setup = with_reference
    steps = choice_steps
    batches = choice_batches

    def __post_init__(self) -> None:
        above_zero(self, "beta")
        fraction(self, "label_smoothing")

    def loss(self, model: Any, batch: ChoiceBatch) -> Loss:
        ratios = log_ratios(model, batch, self.per)
        target = smoothed(batch.target, batch.present, self.label_smoothing)
        each = choice_loss(self.beta * ratios, target, batch.present)
        return weighted_loss(batch, each, self.beta * ratios, {"ratio": ratios})
