"""Group relative policy optimisation (Shao et al., arXiv 2402.03300, section 4.1)."""

from dataclasses import dataclass

from torch import Tensor

from cai.config import key
from cai.objectives._advantage import group_advantages
from cai.objectives._group import GroupObjective


@dataclass(frozen=True, kw_only=True)
class Grpo(GroupObjective):
    """The advantage of an answer is its score less the mean of all answers to the prompt, with `scale` over
    their deviation as well (without: "Dr. GRPO", Liu et al., arXiv 2503.20783).

    All tokens of a step weigh the same, whatever the length of their answer (Yu et al., arXiv 2503.14476,
    equation 12).
    """

    scale: bool = key(True, "divide by the deviation of the group's scores")

    def advantages(self, scores: Tensor) -> Tensor:
        return group_advantages(scores, self.scale)
