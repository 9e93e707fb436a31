"""Clipped losses, divergences from the reference and the controller of their coefficient. Pure functions."""

from typing import Literal

import torch
from torch import Tensor

Estimator = Literal["k1", "k2", "k3"]

# A ratio of e^20 is clipped in any loss below; beyond it float32 would overflow.
LARGEST_LOG_RATIO = 20.0


def divergence(logps: Tensor, reference: Tensor, estimator: Estimator) -> Tensor:
    """An estimate, at each token sampled from pi, of KL(pi || pi_ref) there (Schulman 2020, "Approximating KL
    divergence"); with d = log pi - log pi_ref: k1 = d, k2 = d^2 / 2, k3 = e^-d - 1 + d.

    k1 and k3 are unbiased as numbers. As a loss it is the gradient that counts: k2 has that of KL(pi ||
    pi_ref), k3 that of KL(pi_ref || pi), and k1 none.
    """
    d = logps - reference
    if estimator == "k1":
        return d
    if estimator == "k2":
        return d**2 / 2
    return torch.expm1((-d).clamp(max=LARGEST_LOG_RATIO)) + d


def policy_loss(
    logps: Tensor, old: Tensor, advantages: Tensor, clip: float, clip_high: float | None = None
) -> Tensor:
    """Of each token: -min(r A, clip(r, 1 - clip, 1 + clip_high) A) with r = pi / pi_old (Schulman et al.,
    arXiv 1707.06347, equation 7); `clip_high` is `clip` unless given ("clip-higher": Yu et al., arXiv
    2503.14476).
    """
    ratio = _ratio(logps, old)
    bounded = ratio.clamp(1 - clip, 1 + (clip if clip_high is None else clip_high))
    return -torch.minimum(ratio * advantages, bounded * advantages)


def is_clipped(
    logps: Tensor, old: Tensor, advantages: Tensor, clip: float, clip_high: float | None = None
) -> Tensor:
    """Which tokens the clipping of `policy_loss` cuts off from the gradient."""
    ratio = _ratio(logps, old)
    high = 1 + (clip if clip_high is None else clip_high)
    return ((advantages > 0) & (ratio > high)) | ((advantages < 0) & (ratio < 1 - clip))


def value_loss(values: Tensor, old: Tensor, returns: Tensor, clip: float) -> Tensor:
    """Of each token: max((V - R)^2, (V_clipped - R)^2) / 2, V_clipped being V no further than `clip` from the
    V that the rollout was made with (PPO's code, OpenAI baselines ppo2).
    """
    near = old + (values - old).clamp(-clip, clip)
    return torch.maximum((values - returns) ** 2, (near - returns) ** 2) / 2


def adapted(coefficient: float, kl: float, target: float, horizon: float, answers: int) -> float:
    """The KL coefficient after `answers` answers that were `kl` nats from the reference on average (Ziegler
    et al., arXiv 1909.08593, section 2.2): c (1 + clip(kl / target - 1, -0.2, 0.2) answers / horizon).
    """
    error = min(max(kl / target - 1, -0.2), 0.2)
    return coefficient * (1 + error * answers / horizon)


def _ratio(logps: Tensor, old: Tensor) -> Tensor:
    return (logps - old).clamp(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO).exp()
