"""From logits to the next token of each row, a pure function of the row: no generator is shared."""

from collections.abc import Sequence

import torch
from torch import Tensor

from cai.engines import Sampling
from cai.errors import CaiError


def choose(logits: Tensor, samplings: Sequence[Sampling], uniforms: Sequence[float]) -> list[int]:
    """The next token of each row of `logits` (rows, vocabulary), by inversion of its distribution at
    `uniforms`.

    Temperature first, then `top_k`, then `top_p` (the least set of tokens that holds so much). Raises
    `CaiError` when the model's output is no number.
    """
    logits = logits.float()
    highest, best = logits.max(-1)
    if not bool(torch.isfinite(highest).all()):
        broken = "the model's output is not a number"
        raise CaiError(broken, next='its weights are damaged, or the dtype overflows: try dtype = "float32"')
    tokens: list[int] = best.tolist()
    cut = [row for row, sampling in enumerate(samplings) if _is_cut(sampling)]
    whole = [
        row for row, sampling in enumerate(samplings) if sampling.temperature > 0 and not _is_cut(sampling)
    ]
    for rows, draw in ((whole, _from_whole), (cut, _from_cut)):
        if rows:
            chosen = [samplings[row] for row in rows]
            heat = _column([sampling.temperature for sampling in chosen], logits).float()
            uniform = _column([uniforms[row] for row in rows], logits)
            weights = ((logits[rows] - highest[rows, None]) / heat).exp_()
            for row, token in zip(rows, draw(weights, chosen, uniform).tolist(), strict=True):
                tokens[row] = token
    return tokens


def _is_cut(sampling: Sampling) -> bool:
    return sampling.temperature > 0 and (sampling.top_p < 1 or sampling.top_k > 0)


def _from_whole(weights: Tensor, samplings: Sequence[Sampling], uniform: Tensor) -> Tensor:
    return _invert(weights.cumsum(-1, dtype=torch.float64), uniform)[:, 0]


def _from_cut(weights: Tensor, samplings: Sequence[Sampling], uniform: Tensor) -> Tensor:
    ordered, tokens = weights.sort(dim=-1, descending=True, stable=True)
    rank = torch.arange(weights.shape[-1], device=weights.device)
    ordered[rank >= _column([sampling.top_k or len(rank) for sampling in samplings], weights)] = 0
    held = ordered.cumsum(-1, dtype=torch.float64)
    share = _column([sampling.top_p for sampling in samplings], weights)
    ordered[held - ordered >= share * held[:, -1:]] = 0
    return tokens.gather(-1, _invert(ordered.cumsum(-1, dtype=torch.float64), uniform))[:, 0]


def _invert(running: Tensor, uniform: Tensor) -> Tensor:
    """For each row of running sums, the first index that passes `uniform` of the total, (rows, 1)."""
    total = running[:, -1:]
    # Rounding may carry the product up to the total itself, which no running sum passes.
    sought = torch.minimum(uniform * total, torch.nextafter(total, torch.zeros_like(total)))
    found: Tensor = torch.searchsorted(running, sought, right=True)
    return found


def _column(values: Sequence[float], like: Tensor) -> Tensor:
    """(rows, 1) in float64, on the device of `like`."""
    return torch.tensor(values, dtype=torch.float64, device=like.device)[:, None]
