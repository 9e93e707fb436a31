"""Identity preference optimisation (Azar et al., arXiv 2310.12036)."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from cai.config import key
from cai.objectives import Loss
from cai.objectives._choices import (
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
from cai.objectives._keys import above_zero
from cai.objectives._preference import expected
from cai.records import Comparison
from cai.training.data import TOO_LONG, Label, TooLong
from cai.training.models import POLICY, ModelKind


def ipo_loss(gap: Tensor, p: Tensor, tau: float) -> Tensor:
    """(gap - 1 / (2 tau))^2 [P] of the paper's equation 17, averaged over the label: 1 with probability p."""
    goal = 1 / (2 * tau)
    return expected((gap - goal).square(), (gap + goal).square(), p)


@dataclass(frozen=True, kw_only=True)
class Ipo:
    """Loss of a pair: p (d - 1 / (2 tau))^2 + (1 - p) (d + 1 / (2 tau))^2, averaged over a step's pairs.

    d is DPO's, the difference of the two answers' log ratios to the model as training starts. Convention:
    `per` = "answer" takes sums over the answers' tokens, as the paper's log-probabilities are; "token" takes
    means per token, which is what some trainers call IPO, and wants a larger tau. Hard labels (p = 1) give
    equation 17 of the paper; a soft label averages it over the label, and is least at
    d = (2 p - 1) / (2 tau).
    """

    takes: ClassVar[type] = Comparison
    trains: ClassVar[ModelKind] = POLICY

    tau: float = key(0.1, "how strongly the model is held to where it starts")
    per: Per = key("answer", PER)
    label: Label = key("soft", LABEL)
    too_long: TooLong = key("error", TOO_LONG)

    sources = pair_sources
    prepare = prepare_pairs
    setup = with_reference
    steps = choice_steps
    batches = choice_batches

    def __post_init__(self) -> None:
        above_zero(self, "tau")

    def loss(self, model: Any, batch: ChoiceBatch) -> Loss:
        ratios = log_ratios(model, batch, self.per)
        each = ipo_loss(ratios[:, 0] - ratios[:, 1], batch.target[:, 0], self.tau)
        return weighted_loss(batch, each, ratios, {"ratio": ratios})
