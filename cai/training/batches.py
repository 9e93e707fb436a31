"""Token rows as tensors, and the log-probabilities of what is learned.

Rows are padded on the right and no attention mask is passed: under causal attention no real token sees a
later one, so padding cannot change a real position. The language-model head runs only where the next token
is scored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from cai.chat import Example


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Sequences of one forward pass: B of them, padded to T tokens, with N scored tokens in all.

    `names` are the ids of the rows behind them, for errors; `tokens` counts the real ones.
    """

    ids: Tensor  # [B, T] int64
    positions: Tensor  # [N] int64: flat position b * T + t whose next token, t + 1, is scored
    targets: Tensor  # [N] int64: that next token
    rows: Tensor  # [N] int64: b
    names: tuple[str, ...]
    tokens: int


def collate(examples: Sequence[Example], names: Sequence[str], device: torch.device | str = "cpu") -> Batch:
    """Pad examples on the right into one batch. Padding is id 0; nothing reads it."""
    length = max(len(example.ids) for example in examples)
    ids = torch.zeros(len(examples), length, dtype=torch.int64)
    scored = torch.zeros(len(examples), length, dtype=torch.bool)
    for row, example in enumerate(examples):
        ids[row, : len(example.ids)] = torch.tensor(example.ids)
        scored[row, : len(example.ids) - 1] = torch.tensor(example.mask[1:], dtype=torch.bool)
    positions = scored.flatten().nonzero().squeeze(1)
    return Batch(
        ids=ids.to(device),
        positions=positions.to(device),
        # A scored position is never the last of its row, so its next token is the next one in flat order.
        targets=ids.flatten()[positions + 1].to(device),
        rows=(positions // length).to(device),
        names=tuple(names),
        tokens=sum(len(example.ids) for example in examples),
    )


def column(values: Sequence[float], model: Any) -> Tensor:
    """Numbers [len(values)] beside a batch, on the model's device, in float32 or wider."""
    return torch.tensor(values, dtype=torch.promote_types(model.dtype, torch.float32), device=model.device)


def token_logps(model: Any, batch: Batch) -> Tensor:
    """Log-probability [N] of every scored token, computed in float32 (or in float64 if the model is)."""
    logits = _scored_logits(model, batch)
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return -functional.cross_entropy(wide, batch.targets, reduction="none")


def completion_logps(model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """Summed log-probability [B] of the scored tokens of each sequence, and how many [B] they are."""
    each = token_logps(model, batch)
    sums = each.new_zeros(len(batch.ids)).index_add(0, batch.rows, each)
    return sums, torch.bincount(batch.rows, minlength=len(batch.ids))


def _scored_logits(model: Any, batch: Batch) -> Tensor:
    """Logits [N, V] at the scored positions.

    The head's input is narrowed on its way in, so that whatever the model does after its head (scaling,
    capping) still happens, and nothing of size [B, T, V] is ever made.
    """

    def narrow(_: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inputs[0].flatten(0, 1)[batch.positions], *inputs[1:])

    hook = model.get_output_embeddings().register_forward_pre_hook(narrow)
    try:
        logits: Tensor = model(input_ids=batch.ids, use_cache=False).logits
    finally:
        hook.remove()
    return logits
