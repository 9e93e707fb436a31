"""From logits to the next token of each row, a pure function of the row: no generator is shared."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from cai.engines import Sampling
from cai.errors import CaiError

# Rows of logits less their highest, how each is sampled, a uniform number each -> tokens and their chances.
Draw = Callable[[Tensor, Sequence[Sampling], Tensor], tuple[Tensor, Tensor]]


def choose(
    logits: Tensor, samplings: Sequence[Sampling], uniforms: Sequence[float]
) -> list[tuple[int, float]]:
    """The next token of each row of `logits` (rows, vocabulary), by inversion of its distribution at
    `uniforms`, and the log of the probability that it had there.

    Temperature first, then `top_k`, then `top_p` (the least set of tokens that holds so much). Raises
    `CaiError` when the model's output is no number.
    """
    logits = logits.float()
    highest = logits.amax(-1, keepdim=True)
    if not bool(torch.isfinite(highest).all()):
        broken = "the model's output is not a number"
        raise CaiError(broken, next='its weights are damaged, or the dtype overflows: try dtype = "float32"')
    found = [(0, 0.0)] * len(samplings)
    for draw, rows in _kinds(samplings).items():
        # Usually all rows are of one kind: then nothing is copied.
        chosen = slice(None) if len(rows) == len(samplings) else torch.tensor(rows, device=logits.device)
        weights = logits[chosen] - highest[chosen]
        asked = [samplings[row] for row in rows]
        uniform = _column([uniforms[row] for row in rows], logits)
        # One copy off the device for both; every token is a whole number in float64, too.
        drawn = torch.stack(draw(weights, asked, uniform), dim=1).tolist()
        for row, (token, chance) in zip(rows, drawn, strict=True):
            found[row] = int(token), math.log(chance)
    return found


def _kinds(samplings: Sequence[Sampling]) -> dict[Draw, list[int]]:
    """The rows by the way their token is found."""
    kinds: dict[Draw, list[int]] = {}
    for row, sampling in enumerate(samplings):
        cut = sampling.top_p < 1 or sampling.top_k > 0
        draw = _greedy if sampling.temperature == 0 else _from_cut if cut else _from_whole
        kinds.setdefault(draw, []).append(row)
    return kinds


def _greedy(logits: Tensor, samplings: Sequence[Sampling], uniform: Tensor) -> tuple[Tensor, Tensor]:
    return logits.argmax(-1).double(), torch.ones_like(uniform[:, 0])


def _from_whole(logits: Tensor, samplings: Sequence[Sampling], uniform: Tensor) -> tuple[Tensor, Tensor]:
    weights = _weights(logits, samplings)
    places, chances = _invert(weights, uniform)
    return places[:, 0].double(), chances


def _from_cut(logits: Tensor, samplings: Sequence[Sampling], uniform: Tensor) -> tuple[Tensor, Tensor]:
    ordered, tokens = _weights(logits, samplings).sort(dim=-1, descending=True, stable=True)
    rank = torch.arange(ordered.shape[-1], device=ordered.device)
    ordered[rank >= _column([sampling.top_k or len(rank) for sampling in samplings], ordered)] = 0
    held = ordered.cumsum(-1, dtype=torch.float64)
    share = _column([sampling.top_p for sampling in samplings], ordered)
    ordered[held - ordered >= share * held[:, -1:]] = 0
    places, chances = _invert(ordered, uniform)
    return tokens.gather(-1, places)[:, 0].double(), chances


def _weights(logits: Tensor, samplings: Sequence[Sampling]) -> Tensor:
    """Probabilities but for a factor; `logits` are at most 0 and are overwritten."""
    heat = _column([sampling.temperature for sampling in samplings], logits)
    return logits.div_(heat.float()).exp_()


def _invert(weights: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """For each row, the first index at which the running sum passes `uniform` of the total, (rows, 1), and
    the share of the total that is there, (rows,).
    """
    running = weights.cumsum(-1, dtype=torch.float64)
    total = running[:, -1:]
    # Rounding may carry the product up to the total itself, which no running sum passes.
    sought = torch.minimum(uniform * total, torch.nextafter(total, torch.zeros_like(total)))
    found: Tensor = torch.searchsorted(running, sought, right=True)
    return found, (weights.gather(-1, found) / total)[:, 0]


def _column(values: Sequence[float], like: Tensor) -> Tensor:
    """(rows, 1) in float64, on the device of `like`."""
    return torch.tensor(values, dtype=torch.float64, device=like.device)[:, None]
