"""The hinge loss on pairs (SLiC-HF, arXiv 2305.10425; on log ratios as in RSO, arXiv 2309.06657)."""

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
from cai.objectives._preference import expected
from cai.records import Comparison
from cai.training.data import TOO_LONG, Label, TooLong
from cai.training.models import POLICY, ModelKind


def hinge_loss(margin: Tensor, p: Tensor) -> Tensor:
    """max(0, 1 - margin) [P], averaged over the label: 1 with probability `p`, else the margin is negated."""
    return expected((1 - margin).clamp(min=0), (1 + margin).clamp(min=0), p)


@dataclass(frozen=True, kw_only=True)
class Hinge:
    """Loss of a pair: p max(0, 1 - beta d) + (1 - p) max(0, 1 + beta d), averaged over a step's pairs.

    d is DPO's, the difference of the two answers' log ratios to the model as training starts. Hard labels
    (p = 1) give the normalised hinge of RSO (Liu et al., arXiv 2309.06657), after SLiC-HF (Zhao
    et al., arXiv 2305.10425); a soft label averages it over the label.
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
        each = hinge_loss(self.beta * (ratios[:, 0] - ratios[:, 1]), batch.target[:, 0])
        return weighted_loss(batch, each, self.beta * ratios, {"ratio": ratios})
