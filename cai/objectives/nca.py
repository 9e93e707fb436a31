"""Noise contrastive alignment (Chen et al., arXiv 2402.05369)."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional

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
from cai.records import Comparison
from cai.training.data import TOO_LONG, Label, TooLong
from cai.training.models import POLICY, ModelKind


def nca_loss(rewards: Tensor, target: Tensor, present: Tensor) -> Tensor:
    """- sum_k [target_k log sigmoid(r_k) + log sigmoid(-r_k) / K] [G] for implicit rewards r [G, K]."""
    share = present.to(rewards.dtype) / present.sum(-1, keepdim=True)
    return -(target * functional.logsigmoid(rewards) + share * functional.logsigmoid(-rewards)).sum(-1)


@dataclass(frozen=True, kw_only=True)
class Nca:
    """Loss of a row of K candidates: - sum_k [q_k log sigmoid(beta h_k) + log sigmoid(-beta h_k) / K].

    h_k = log pi(y_k) - log pi_ref(y_k); averaged over a step's rows. NCA of the paper, where q is the
    softmax of rewards: here the comparison's probabilities ("soft", the natural form) or 1 for the best
    ("hard"; with two candidates the paper's NCA for pairs). It holds every candidate's likelihood by itself,
    so the better answer's does not fall.
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
        each = nca_loss(self.beta * ratios, batch.target, batch.present)
        return weighted_loss(batch, each, self.beta * ratios, {"ratio": ratios})
