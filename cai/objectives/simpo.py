"""Simple preference optimisation: no reference, length-normalised (Meng et al., arXiv 2405.14734)."""

from dataclasses import dataclass
from typing import Any, ClassVar

from cai.config import key
from cai.objectives import Loss
from cai.objectives._choices import (
    LABEL,
    ChoiceBatch,
    answer_logps,
    as_it_is,
    choice_batches,
    choice_steps,
    pair_sources,
    prepare_pairs,
    weighted_loss,
)
from cai.objectives._keys import above_zero, not_negative
from cai.objectives._preference import choice_loss
from cai.records import Comparison
from cai.training.data import TOO_LONG, Label, TooLong
from cai.training.models import POLICY, ModelKind


@dataclass(frozen=True, kw_only=True)
class Simpo:
    """Loss of a pair: - log sigmoid(beta (l_w - l_l) - margin), averaged over a step's pairs.

    l is an answer's mean log-probability per token, its end-of-turn among them; `margin` is the paper's
    gamma (equation 6). A soft label averages the loss over which of the two is w:
    - p log sigmoid(x - margin) - (1 - p) log sigmoid(-x - margin).
    """

    takes: ClassVar[type] = Comparison
    trains: ClassVar[ModelKind] = POLICY

    beta: float = key(2.0, "the scale of the mean log-probabilities")
    margin: float = key(1.0, "by how much the better answer has to win, 0 or above")
    label: Label = key("soft", LABEL)
    too_long: TooLong = key("error", TOO_LONG)

    sources = pair_sources
    prepare = prepare_pairs
    setup = as_it_is
    steps = choice_steps
    batches = choice_batches

    def __post_init__(self) -> None:
        above_zero(self, "beta")
        not_negative(self, "margin")

    def loss(self, model: Any, batch: ChoiceBatch) -> Loss:
        logps = answer_logps(model, batch, "token")
        each = choice_loss(self.beta * logps, batch.target, batch.present, self.margin)
        return weighted_loss(batch, each, self.beta * logps, {"logp": logps})
