"""A reward model, learned from comparisons with soft labels (Christiano et al., arXiv 1706.03741)."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from cai.config import key
from cai.objectives import Loss
from cai.objectives._choices import (
    LABEL,
    ChoiceBatch,
    as_it_is,
    choice_batches,
    choice_sources,
    choice_steps,
    prepare_choices,
    weighted_loss,
)
from cai.objectives._keys import not_negative
from cai.objectives._preference import choice_loss
from cai.records import Comparison
from cai.training.data import TOO_LONG, Label, TooLong
from cai.training.models import ModelKind
from cai.training.scalar import REWARD, final_scores


def centring_loss(scores: Tensor, present: Tensor) -> Tensor:
    """The square [G] of the mean score of a row's candidates [G, K]."""
    return ((scores * present).sum(-1) / present.sum(-1)).square()


@dataclass(frozen=True, kw_only=True)
class Reward:
    """Loss of a row of K answers: - sum_k q_k log softmax_k(r) + centring * (mean_k r)^2.

    r are the scores, averaged are a step's rows. The target q is the comparison's probabilities over its
    candidates ("soft") or 1 for the best ("hard"). With two answers it is Bradley-Terry,
    - p log sigmoid(r_a - r_b) - (1 - p) log sigmoid(r_b - r_a); with more the cross-entropy of the top choice
    of a Plackett-Luce model (ListNet: Cao et al., ICML 2007).
    `margin` is by how much the chosen answer's score has to win (Touvron et al., arXiv 2307.09288, equation
    2, with one margin for all). `centring` keeps scores near 0, which the differences leave open (Eisenstein
    et al., arXiv 2312.09244; the square there is of the sum of two scores, so a coefficient c of
    theirs is 4 c here).
    """

    takes: ClassVar[type] = Comparison
    trains: ClassVar[ModelKind] = REWARD

    margin: float = key(0.0, "by how much the better answer's score has to win, 0 or above")
    centring: float = key(0.0, "how strongly the mean score of a row is held to 0")
    label: Label = key("soft", LABEL)
    too_long: TooLong = key("error", TOO_LONG)

    sources = choice_sources
    prepare = prepare_choices
    setup = as_it_is
    steps = choice_steps
    batches = choice_batches

    def __post_init__(self) -> None:
        not_negative(self, "margin")
        not_negative(self, "centring")

    def loss(self, model: Any, batch: ChoiceBatch) -> Loss:
        scores = batch.table(final_scores(model, batch.batch))
        each = choice_loss(scores, batch.target, batch.present, self.margin)
        each = each + self.centring * centring_loss(scores, batch.present)
        return weighted_loss(batch, each, scores, {"score": scores})
