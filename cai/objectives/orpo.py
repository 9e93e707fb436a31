"""Odds ratio preference optimisation: SFT and preference in one (Hong et al., arXiv 2403.07691)."""

from dataclasses import dataclass
from math import log
from typing import Any, ClassVar

import torch
from torch import Tensor

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
from cai.objectives._keys import above_zero
from cai.objectives._preference import choice_loss
from cai.records import Comparison
from cai.training.data import TOO_LONG, Label, TooLong
from cai.training.models import POLICY, ModelKind


def log_odds(logp: Tensor) -> Tensor:
    """log(P / (1 - P)) of a probability P = exp(logp), exact near 0 and near 1.

    From 1 - eps on, P counts as 1 - eps: the odds of a certain answer would be infinite.
    """
    below = logp.clamp(max=-torch.finfo(logp.dtype).eps)
    near_one = below > -log(2)
    # Each branch gets numbers at which it is finite: an infinity in the one not taken would spoil gradients.
    left = torch.log(-torch.expm1(torch.where(near_one, below, -1.0)))
    right = torch.log1p(-torch.exp(torch.where(near_one, -1.0, below)))
    return below - torch.where(near_one, left, right)


@dataclass(frozen=True, kw_only=True)
class Orpo:
    """Loss of a pair: - l_w - strength * log sigmoid(log odds(w) - log odds(l)).

    Averaged over a step's pairs, without a reference model. l is an answer's mean log-probability per token,
    its end-of-turn among them, and odds = P / (1 - P) with P = exp(l) (equations 4 to 7 of the paper; the
    prompt is not learned). `strength` is the paper's lambda. A soft label averages the loss over which of
    the two is w.
    """

    takes: ClassVar[type] = Comparison
    trains: ClassVar[ModelKind] = POLICY

    strength: float = key(0.1, "how much the preference counts against the better answer's likelihood")
    label: Label = key("soft", LABEL)
    too_long: TooLong = key("error", TOO_LONG)

    sources = pair_sources
    prepare = prepare_pairs
    setup = as_it_is
    steps = choice_steps
    batches = choice_batches

    def __post_init__(self) -> None:
        above_zero(self, "strength")

    def loss(self, model: Any, batch: ChoiceBatch) -> Loss:
        logps = answer_logps(model, batch, "token")
        odds = log_odds(logps)
        each = -(batch.target * logps).sum(1) + self.strength * choice_loss(odds, batch.target, batch.present)
        return weighted_loss(batch, each, odds, {"logp": logps})
