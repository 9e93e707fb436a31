"""REINFORCE with a leave-one-out baseline (Ahmadian et al., arXiv 2402.14740), with PPO's clipped ratio."""

from dataclasses import dataclass

from torch import Tensor

from cai.objectives._advantage import leave_one_out
from cai.objectives._group import GroupObjective


@dataclass(frozen=True, kw_only=True)
class Rloo(GroupObjective):
    """The advantage of an answer is its score less the mean of the other answers to the prompt."""

    def advantages(self, scores: Tensor) -> Tensor:
        return leave_one_out(scores)
