"""Attention within the sequences of a packed batch, where sequences with a common beginning share it.

A group is a prefix and the tails that continue it, laid end to end; a sequence that shares nothing is a
prefix without tails. A token sees itself and what stands before it in its own sequence, nothing else, so the
numbers are those of every sequence alone (prefix sharing: Wang and Hegde, arXiv 2410.20305).

There are three ways to the same numbers: segment by segment (the CPU), one masked call (anywhere), and
FlexAttention with a block mask (CUDA).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

# Prefix length, then the length of each tail, in tokens.
Group = tuple[int, ...]
Way = Callable[["Segments", Tensor, Tensor, Tensor, float, int], Tensor]


@dataclass(frozen=True, kw_only=True)
class Segments:
    """A `Plan` of `cai.engines._attention`: groups laid end to end, T tokens in all."""

    groups: Sequence[Group]
    _masks: dict[Any, Any] = field(default_factory=dict)

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float, window: int
    ) -> Tensor:
        """(heads, T, dim) -> (T, heads, dim); `window` 0: a token sees its whole past."""
        return way_on(query)(self, query, key, value, scaling, window).transpose(0, 1)

    def tail_mask(self, tail: int, prefix: int, window: int, device: torch.device) -> Tensor:
        """True where a token of a tail may look: [tail, prefix + tail]."""
        asked = (tail, prefix, window)
        if asked not in self._masks:
            square = torch.ones(tail, prefix + tail, dtype=torch.bool, device=device).tril(prefix)
            self._masks[asked] = square.triu(prefix + 1 - window) if window else square
        known: Tensor = self._masks[asked]
        return known

    def mask(self, window: int, device: torch.device) -> Tensor:
        """True where a token may look: [T, T]."""
        if window not in self._masks:
            at = torch.arange(len(self.places[0]), device=device)
            self._masks[window] = self.visible(window, device)(None, None, at[:, None], at[None])
        known: Tensor = self._masks[window]
        return known

    def block_mask(self, window: int, device: torch.device) -> Any:
        """The same for FlexAttention."""
        from torch.nn.attention.flex_attention import create_block_mask

        asked = ("block", window)
        if asked not in self._masks:
            size = len(self.places[0])
            self._masks[asked] = create_block_mask(
                self.visible(window, device), None, None, size, size, device=str(device)
            )
        return self._masks[asked]

    def visible(self, window: int, device: torch.device) -> Callable[..., Tensor]:
        """Whether the token at index `q` may look at that at index `k`, as FlexAttention asks it."""
        group, tail, place = (torch.tensor(numbers, device=device) for numbers in self.places)

        def sees(_batch: Any, _head: Any, q: Tensor, k: Tensor) -> Tensor:
            own = (group[q] == group[k]) & ((tail[k] == 0) | (tail[k] == tail[q]))
            past = (place[k] <= place[q]) & (place[k] > place[q] - (window or len(place)))
            return own & past

        return sees

    @cached_property
    def places(self) -> tuple[list[int], list[int], list[int]]:
        """Of every token: its group, its tail in that (0: the prefix), and its place in its sequence."""
        group: list[int] = []
        tail: list[int] = []
        place: list[int] = []
        for at, (prefix, *tails) in enumerate(self.groups):
            for number, length in enumerate((prefix, *tails)):
                start = prefix if number else 0
                group += [at] * length
                tail += [number] * length
                place += range(start, start + length)
        return group, tail, place


def by_segment(
    plan: Segments, query: Tensor, key: Tensor, value: Tensor, scaling: float, window: int
) -> Tensor:
    """One call for each prefix and each tail: (heads, T, dim) -> (heads, T, dim).

    Measured on a CPU at 200 + 60 + 60 tokens: 1.6 times as fast as one masked call for each group.
    """
    lengths = [length for group in plan.groups for length in group]
    # Pieces of one split, not slices: the backward pass of a slice would fill a tensor of the whole.
    queries, keys, values = (torch.split(whole, lengths, dim=1) for whole in (query, key, value))
    out: list[Tensor] = []
    for prefix, *tails in plan.groups:
        first = len(out)
        k, v = keys[first], values[first]
        seen = plan.tail_mask(prefix, 0, window, query.device) if 0 < window < prefix else None
        out.append(_attend(queries[first], k, v, seen, scaling))
        for tail in tails:
            at = len(out)
            seen = plan.tail_mask(tail, prefix, window, query.device)
            joined = torch.cat((k, keys[at]), dim=1), torch.cat((v, values[at]), dim=1)
            out.append(_attend(queries[at], *joined, seen, scaling))
    return torch.cat(out, dim=1)


def masked(plan: Segments, query: Tensor, key: Tensor, value: Tensor, scaling: float, window: int) -> Tensor:
    """One call under a mask of T x T."""
    return _attend(query, key, value, plan.mask(window, query.device), scaling)


def flex(plan: Segments, query: Tensor, key: Tensor, value: Tensor, scaling: float, window: int) -> Tensor:
    """FlexAttention: blocks in which no token sees another are never computed."""
    attended: Tensor = _compiled_flex()(
        query[None],
        key[None],
        value[None],
        block_mask=plan.block_mask(window, query.device),
        scale=scaling,
        enable_gqa=key.shape[0] != query.shape[0],
    )[0]
    return attended


def way_on(query: Tensor) -> Way:
    """The fastest way there is for such a query."""
    if not query.is_cuda:
        return by_segment
    # FlexAttention's kernels are for half and single precision and for heads of 16 numbers and more.
    return flex if query.dtype != torch.float64 and query.shape[-1] >= 16 else masked


@cache
def _compiled_flex() -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    # `dynamic`: batches differ in length, and must not each be compiled anew.
    compiled: Callable[..., Any] = torch.compile(flex_attention, dynamic=True)
    return compiled


def _attend(query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None, scaling: float) -> Tensor:
    """(heads, asking, dim) -> (heads, asking, dim); without a mask, causal."""
    return scaled_dot_product_attention(
        query[None],
        key[None],
        value[None],
        attn_mask=seen,
        is_causal=seen is None,
        scale=scaling,
        enable_gqa=key.shape[0] != query.shape[0],
    )[0]
