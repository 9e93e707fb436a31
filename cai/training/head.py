"""Log-probabilities from the language-model head without the logits of all tokens in memory at once."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

# Logits made at a time: 16 MiB in float32.
CELLS = 1 << 22
# Probabilities kept for the backward pass: 64 MiB in float32. Where there are more they are made again in it.
KEPT = 1 << 24


def head_logps(hidden: Tensor, head: torch.nn.Linear, targets: Tensor, temperature: float = 1.0) -> Tensor:
    """log softmax(head(hidden) / temperature)[targets]: [N, H], [N] -> [N], in float32 (float64 if `hidden`
    is).

    The logits are made in chunks of tokens, and where they are many made again in the backward pass. The
    weight's gradient is summed over the chunks in float32, so cutting costs no precision under bfloat16.
    """
    return _head(hidden, head, targets, temperature, entropy=False)[0]


def head_logps_and_entropy(
    hidden: Tensor, head: torch.nn.Linear, targets: Tensor, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """`head_logps`, and the entropy [N] of each softmax, which has no gradient."""
    return _head(hidden, head, targets, temperature, entropy=True)


def _head(
    hidden: Tensor, head: torch.nn.Linear, targets: Tensor, temperature: float, *, entropy: bool
) -> tuple[Tensor, Tensor]:
    device = hidden.device.type
    narrow = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    keep = torch.is_grad_enabled() and len(hidden) * len(head.weight) <= KEPT
    chunked: Any = _HeadLogps.apply
    found: tuple[Tensor, Tensor] = chunked(
        hidden, head.weight, head.bias, targets, temperature, narrow, entropy, keep
    )
    return found


class _HeadLogps(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        temperature: float,
        narrow: torch.dtype,
        entropy: bool,
        keep: bool,
    ) -> tuple[Tensor, Tensor]:
        wide = torch.promote_types(hidden.dtype, torch.float32)
        ctx.narrow, ctx.wide, ctx.temperature = narrow, wide, temperature
        sums = hidden.new_empty(len(hidden), dtype=wide)
        logps = torch.empty_like(sums)
        entropies = torch.empty_like(sums) if entropy else sums.new_empty(0)
        small = None if bias is None else bias.to(narrow)
        matrix = weight.to(narrow)
        kept = []
        for here in _chunks(hidden, weight):
            logits = _cooled(functional.linear(hidden[here].to(narrow), matrix, small).to(wide), temperature)
            highest = logits.amax(-1, keepdim=True)
            chosen = logits.gather(1, targets[here, None]).sub_(highest).squeeze(1)
            logits -= highest
            # The logits themselves are read once more for the entropy alone.
            chances = logits.exp() if entropy else logits.exp_()
            total = chances.sum(-1)
            log_total = total.log()
            logps[here] = chosen - log_total
            sums[here] = log_total + highest.squeeze(1)
            if entropy:
                # H = log Z - E[logit]: no logarithm of a probability that may be 0.
                entropies[here] = log_total - torch.linalg.vecdot(chances, logits) / total
            if keep:
                kept.append(chances.div_(total[:, None]))
        ctx.save_for_backward(hidden, weight, bias, targets, sums, *kept)
        ctx.mark_non_differentiable(entropies)
        return logps, entropies

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """d logp_t / d logits_t = (onehot(target_t) - softmax_t) / temperature."""
        hidden, weight, bias, targets, sums, *kept = ctx.saved_tensors
        narrow, wide = ctx.narrow, ctx.wide
        of_hidden, of_weight, of_bias = ctx.needs_input_grad[:3]
        matrix = weight.to(narrow)
        small = None if bias is None else bias.to(narrow)
        d_hidden = torch.empty_like(hidden) if of_hidden else None
        d_weight = torch.zeros_like(weight, dtype=wide) if of_weight else None
        d_bias = torch.zeros_like(bias, dtype=wide) if of_bias else None
        for at, here in enumerate(_chunks(hidden, weight)):
            inputs = hidden[here].to(narrow)
            steep = grad[here, None] / ctx.temperature
            if kept:
                slope = kept[at] * -steep
            else:
                logits = _cooled(functional.linear(inputs, matrix, small).to(wide), ctx.temperature)
                slope = logits.sub_(sums[here, None]).exp_().mul_(-steep)
            slope.scatter_add_(1, targets[here, None], steep)
            if d_bias is not None:
                d_bias += slope.sum(0)
            slope = slope.to(narrow)
            if d_hidden is not None:
                d_hidden[here] = (slope @ matrix).to(hidden.dtype)
            if d_weight is not None:
                _add_product(d_weight, slope.T, inputs)
        return (
            d_hidden,
            None if d_weight is None else d_weight.to(weight.dtype),
            None if d_bias is None else d_bias.to(bias.dtype),
            None,
            None,
            None,
            None,
            None,
        )


def _cooled(logits: Tensor, temperature: float) -> Tensor:
    # At 1 a pass over the logits is saved.
    return logits if temperature == 1 else logits.div_(temperature)


def _chunks(hidden: Tensor, weight: Tensor) -> list[slice]:
    rows = max(1, CELLS // len(weight))
    return [slice(start, start + rows) for start in range(0, len(hidden), rows)]


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """total += left @ right, the sum in the total's own precision."""
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right
