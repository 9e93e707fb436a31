"""Token rows as tensors, and the log-probabilities of what is learned.

Sequences lie end to end without padding, and those that begin alike (the two answers of a pair, the
candidates of a comparison) share that beginning: it is computed once. The numbers, and their gradients, are
those of every sequence alone. The language-model head runs only where the next token is scored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from cai.chat import Example
from cai.training import forward
from cai.training.attention import Group, Segments
from cai.training.forward import Sequences, Tokens, plain_head
from cai.training.head import CELLS, head_logps
from cai.training.sharing import shared


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Sequences of one forward pass: B of them, with N scored tokens in all.

    `names` are the ids of the rows behind them, for errors; `tokens` counts those of all sequences, shared
    ones in each.
    """

    sequences: Sequences
    scored: Tokens  # N: the tokens whose next token is scored
    targets: Tensor  # [N] int64: that next token
    ends: Tokens  # B: the last token of each sequence
    names: tuple[str, ...]
    tokens: int

    @property
    def rows(self) -> Tensor:
        """Which sequence each scored token belongs to, [N] int64, in rising order."""
        return self.scored.rows


def collate(examples: Sequence[Example], names: Sequence[str], device: torch.device | str = "cpu") -> Batch:
    """Lay examples end to end in one batch; those that share their prompt share its tokens."""
    laid = _lay(examples)
    at, rows, targets = [], [], []
    for row, example in enumerate(examples):
        scored = [place for place in range(len(example.ids) - 1) if example.mask[place + 1]]
        at += [laid.where(row, place) for place in scored]
        rows += [row] * len(scored)
        targets += [example.ids[place + 1] for place in scored]
    segments = Segments(groups=tuple(laid.groups))
    ends = [laid.where(row, len(example.ids) - 1) for row, example in enumerate(examples)]

    def tensor(numbers: Sequence[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.int64, device=device)

    return Batch(
        sequences=Sequences(
            ids=tensor(laid.ids),
            places=tensor(segments.places[2]),
            segments=segments,
            order=tensor(laid.order),
        ),
        scored=Tokens(at=tensor(at), rows=tensor(rows)),
        targets=tensor(targets),
        ends=Tokens(at=tensor(ends), rows=tensor(range(len(examples)))),
        names=tuple(names),
        tokens=sum(len(example.ids) for example in examples),
    )


def column(values: Sequence[float], model: Any) -> Tensor:
    """Numbers [len(values)] beside a batch, on the model's device, in float32 or wider."""
    return torch.tensor(values, dtype=torch.promote_types(model.dtype, torch.float32), device=model.device)


def token_logps(model: Any, batch: Batch) -> Tensor:
    """Log-probability [N] of every scored token, computed in float32 (or in float64 if the model is)."""
    head = plain_head(model)
    if head is not None and len(batch.targets) * head.out_features > CELLS:
        return head_logps(forward.states(model, batch.sequences, batch.scored), head, batch.targets)
    logits = forward.logits(model, batch.sequences, batch.scored)
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return -functional.cross_entropy(wide, batch.targets, reduction="none")


def completion_logps(model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """Summed log-probability [B] of the scored tokens of each sequence, and how many [B] they are."""
    each = token_logps(model, batch)
    count = len(batch.ends.rows)
    sums = each.new_zeros(count).index_add(0, batch.rows, each)
    return sums, torch.bincount(batch.rows, minlength=count)


def last_states(model: Any, batch: Batch) -> Tensor:
    """Hidden state [B, H] of the last token of each sequence, as a head over it reads it."""
    return forward.states(model, batch.sequences, batch.ends)


def scored_states(model: Any, batch: Batch) -> Tensor:
    """Hidden state [N, H] of every token whose next one is scored."""
    return forward.states(model, batch.sequences, batch.scored)


@dataclass(frozen=True, kw_only=True)
class _Laid:
    """Where everything lies: a row's first `common` tokens begin at `head`, the others at `tail`."""

    ids: list[int]
    groups: list[Group]
    order: list[int]
    spans: dict[int, tuple[int, int, int]]  # row -> common, head, tail

    def where(self, row: int, place: int) -> int:
        common, head, tail = self.spans[row]
        return head + place if place < common else tail + place - common


def _lay(examples: Sequence[Example]) -> _Laid:
    laid = _Laid(ids=[], groups=[], order=[], spans={})
    for common, members in shared(examples):
        head = len(laid.ids)
        laid.ids.extend(examples[members[0]].ids[:common])
        for row in members:
            laid.spans[row] = common, head, len(laid.ids)
            laid.ids.extend(examples[row].ids[common:])
        lengths = [len(examples[row].ids) - common for row in members]
        laid.groups.append((common, *lengths) if common else (lengths[0],))
        laid.order.extend(members)
    return laid
