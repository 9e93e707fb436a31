"""How much better than expected each token or answer was: the estimators of PPO, GRPO and RLOO.

Pure functions. B answers are padded on the right to T tokens; `mask` [B, T] says which are real.
"""

import torch
from torch import Tensor

EPS = 1e-8


def gae(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> Tensor:
    """Generalised advantage estimates [B, T] (Schulman et al., arXiv 1506.02438, equations 11 and 16).

    delta_t = r_t + gamma V_{t+1} - V_t and A_t = delta_t + gamma lam A_{t+1}; what follows an answer's last
    real token is worth 0. Padding gets 0.
    """
    advantages = torch.zeros_like(rewards)
    value_after = advantage_after = rewards.new_zeros(len(rewards))
    for at in reversed(range(rewards.shape[1])):
        delta = rewards[:, at] + gamma * value_after - values[:, at]
        advantage_after = (delta + gamma * lam * advantage_after) * mask[:, at]
        value_after = values[:, at] * mask[:, at]
        advantages[:, at] = advantage_after
    return advantages


def token_rewards(scores: Tensor, divergence: Tensor, mask: Tensor, coefficient: float) -> Tensor:
    """Reward [B, T] of each token: -`coefficient` * `divergence` [B, T], and on the last real one the
    answer's score [B] as well (Ziegler et al., arXiv 1909.08593, equation 2).
    """
    rewards = -coefficient * divergence * mask
    last = mask.sum(1) - 1
    return rewards.scatter_add(1, last[:, None], scores[:, None])


def whiten(values: Tensor, mask: Tensor, keep_mean: bool = False) -> Tensor:
    """`values` [B, T] brought to deviation 1, and to mean 0 unless the mean is kept, over all real tokens.

    The variance is the unbiased one; fewer than two tokens have none and are only centred. Padding gets 0.
    """
    real = values[mask.bool()]
    mean = real.mean()
    scale = torch.rsqrt(real.var() + EPS) if len(real) > 1 else torch.ones_like(mean)
    whitened = (values - mean) * scale
    return (whitened + mean if keep_mean else whitened) * mask


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> float:
    """1 - var(returns - values) / var(returns) over all real tokens; 0 where the returns do not vary."""
    real = mask.bool()
    spread = returns[real].var(correction=0)
    if spread == 0:
        return 0.0
    return float(1 - (returns - values)[real].var(correction=0) / spread)


def group_advantages(scores: Tensor, scale: bool) -> Tensor:
    """Of the K answers to each of P prompts, how far each score [P, K] is from the group's mean.

    With `scale` in units of the group's deviation, the unbiased one (GRPO: Shao et al., arXiv 2402.03300,
    section 4.1.2); without, as it is (Liu et al., arXiv 2503.20783, "Dr. GRPO"). Equal scores give 0.
    """
    alike = scores.amax(1, keepdim=True) == scores.amin(1, keepdim=True)
    # Equal scores may differ from their rounded mean, and their deviation is as small as that difference.
    centred = (scores - scores.mean(1, keepdim=True)).masked_fill(alike, 0.0)
    if not scale:
        return centred
    return centred / (scores.std(1, keepdim=True) + EPS)


def leave_one_out(scores: Tensor) -> Tensor:
    """How far each score [P, K] is from the mean of the K - 1 others (RLOO: Ahmadian et al., arXiv
    2402.14740, equation 8).
    """
    others = scores.shape[1] - 1
    return scores - (scores.sum(1, keepdim=True) - scores) / others
