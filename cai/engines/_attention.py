"""Attention for sequences packed without padding, and the key-value cache that decoding reads.

Registered with transformers under a name of its own, so that any model written against its attention
interface can be driven one packed step at a time. What one sequence computes never depends on its neighbours:
a prompt attends in a call of its own shape, a decoding row in a batched product whose every item is that
row's alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

NAME = "cai_packed"
CELL = 16  # lengths and row counts are multiples of this, which keeps kernels on one code path
LEAST = 4 * CELL  # tokens that a cache has room for, and that a decoding row looks at

# What some models pass to their attention and this one does not compute.
FOREIGN = ("softcap", "s_aux", "sinks", "position_bias", "block_table", "head_mask")


class UnsupportedAttention(Exception):
    """The model's attention asks for more than this one does."""


class Plan(Protocol):
    """How a layer attends in one pass of the model, which hands the plan on to its layers."""

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float, window: int
    ) -> Tensor:
        """(heads, tokens, dim) -> (tokens, heads, dim); `window` 0: a token sees its whole past."""
        ...


class KeyValues:
    """Keys and values of decoding rows, a pair of (slots, heads, length, dim) tensors for each layer."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.length = 0
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}

    def reserve(self, length: int) -> None:
        """Make room for sequences of `length` tokens; what is there stays."""
        if length > self.length:
            self.length = up_to(length, LEAST)
            for layer, (keys, values) in self._layers.items():
                grown = (0, 0, 0, self.length - keys.shape[2])
                self._layers[layer] = (pad(keys, grown), pad(values, grown))

    def fill(self, layer: int, slot: int, keys: Tensor, values: Tensor) -> None:
        """Keep a whole prompt's keys and values, each (heads, tokens, dim)."""
        kept = self._of(layer, keys)
        kept[0][slot, :, : keys.shape[1]] = keys
        kept[1][slot, :, : values.shape[1]] = values

    def append(self, layer: int, positions: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Keep one token for each of the first rows, (heads, rows, dim) at `positions`; the layer's whole
        pair.
        """
        kept = self._of(layer, keys)
        rows = torch.arange(len(positions), device=positions.device)
        kept[0][rows, :, positions] = keys.transpose(0, 1)
        kept[1][rows, :, positions] = values.transpose(0, 1)
        return kept

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` tokens of one slot over another."""
        for pair in self._layers.values():
            for kept in pair:
                kept[target, :, :length] = kept[source, :, :length]

    def _of(self, layer: int, keys: Tensor) -> tuple[Tensor, Tensor]:
        if layer not in self._layers:
            # Zeroed: a masked position has probability 0, and 0 times what happens to lie in memory may be
            # NaN.
            shape = (self.slots, keys.shape[0], self.length, keys.shape[2])
            self._layers[layer] = (keys.new_zeros(shape), keys.new_zeros(shape))
        return self._layers[layer]


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """A forward pass over whole sequences, one after another; `slots[i]` keeps the i-th for decoding, if not
    None.
    """

    cache: KeyValues
    lengths: Sequence[int]
    slots: Sequence[int | None]

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float, window: int
    ) -> Tensor:
        """Causal attention within each sequence: (heads, tokens, dim) -> (tokens, heads, dim)."""
        out = query.new_zeros(query.shape[1], query.shape[0], value.shape[-1])
        start = 0
        for length, slot in zip(self.lengths, self.slots, strict=True):
            here = slice(start, start + length)
            keys, values = key[:, here], value[:, here]
            if slot is not None:
                self.cache.fill(layer, slot, keys, values)
            seen = causal(length, window, query.device) if 0 < window < length else None
            attended = scaled_dot_product_attention(
                query[None, :, here],
                keys[None],
                values[None],
                attn_mask=seen,
                is_causal=seen is None,
                scale=scaling,
                enable_gqa=key.shape[0] != query.shape[0],
            )
            out[here] = attended[0].transpose(0, 1)
            start += length
        return out


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """A forward pass over one new token for each of the first rows of the cache, at `positions`."""

    cache: KeyValues
    positions: Tensor
    length: int
    _masks: dict[int, Tensor] = field(default_factory=dict)

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float, window: int
    ) -> Tensor:
        """Each row attends to its own past: (heads, rows, dim) -> (rows, heads, dim)."""
        keys, values = self.cache.append(layer, self.positions, key, value)
        heads, rows, dim = query.shape
        shared = heads // key.shape[0]
        asked = query.transpose(0, 1).reshape(-1, shared, dim)
        keys, values = (kept[:rows, :, : self.length].flatten(0, 1) for kept in (keys, values))
        scores = torch.bmm(asked, keys.transpose(1, 2)).view(rows, heads, -1)
        seen = scores.mul_(scaling).add_(self._mask(window, query.dtype)).softmax(-1)
        return torch.bmm(seen.view(-1, shared, self.length), values).view(rows, heads, -1)

    def _mask(self, window: int, dtype: torch.dtype) -> Tensor:
        """0 where a row may look and -inf elsewhere, (rows, 1, length)."""
        if window not in self._masks:
            at = torch.arange(self.length, device=self.positions.device)[None]
            hidden = at > self.positions[:, None]
            if window:
                hidden |= at <= self.positions[:, None] - window
            mask = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device)
            self._masks[window] = mask.masked_fill_(hidden, -torch.inf)[:, None]
        return self._masks[window]


def attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    plan: Plan,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """What transformers calls in each layer: (1, heads, tokens, dim) in, (1, tokens, heads, dim) out."""
    foreign = [name for name in FOREIGN if others.get(name) is not None]
    if foreign or attention_mask is not None:
        raise UnsupportedAttention(", ".join(foreign) or "a mask of the model's own")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return plan.attend(module.layer_idx, query[0], key[0], value[0], scale, sliding_window or 0)[None], None


def drive(model: Any) -> None:
    """Switch a transformers model to packed attention."""
    # Not at the top: objectives import this module, and a run with nothing to do should not wait for it.
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attention)
    model.set_attn_implementation(NAME)


def causal(length: int, window: int, device: torch.device) -> Tensor:
    """True where a token may look: itself and the `window` - 1 before it, (length, length)."""
    square = torch.ones(length, length, dtype=torch.bool, device=device)
    return square.tril().triu(1 - window)


def up_to(number: int, multiple: int) -> int:
    """The least multiple that is not below `number`."""
    return -(-number // multiple) * multiple
