"""The formulas that more than one preference objective is made of: pure, and finite at finite input."""

import torch
from torch import Tensor
from torch.nn import functional


def log_choice(scores: Tensor, present: Tensor, margin: float = 0.0) -> Tensor:
    """Log-probability [G, K] that each of K candidates is chosen: log softmax of their `scores` [G, K].

    The top choice of a Plackett-Luce model; with K = 2 Bradley-Terry, log sigmoid(s_a - s_b). `present`
    [G, K] says which candidates there are; what stands for the others means nothing. A `margin` is taken
    from the score of the one chosen, so that it has to win by that much (then they no longer sum to 1).
    """
    # Against the log-sum of the others, and not of all: else a sure choice would be rounded to 0.
    itself = torch.eye(scores.shape[-1], dtype=torch.bool, device=scores.device)
    rivals = scores.unsqueeze(-2).masked_fill(itself | ~present.unsqueeze(-2), float("-inf"))
    return functional.logsigmoid(scores - margin - rivals.logsumexp(-1))


def choice_loss(scores: Tensor, target: Tensor, present: Tensor, margin: float = 0.0) -> Tensor:
    """Cross-entropy [G] of the choice against the probabilities `target` [G, K] (0 for who is not there)."""
    return -(target * log_choice(scores, present, margin)).sum(-1)


def smoothed(target: Tensor, present: Tensor, floor: float) -> Tensor:
    """Labels [G, K] where each of K candidates gets at least `floor`: (1 - K floor) target + floor.

    With K = 2 it is the label after a flip with probability `floor`.
    """
    count = present.sum(-1, keepdim=True).to(target.dtype)
    return ((1 - count * floor) * target + floor) * present


def expected(first: Tensor, second: Tensor, p: Tensor) -> Tensor:
    """The mean of a pair's loss over its label: `first` if a is better (probability `p`), else `second`."""
    return p * first + (1 - p) * second
