"""Whole sequences laid end to end for one forward pass, and which of its outputs belong to which job."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cai.engines._attention import CELL, LEAST, KeyValues, Prompts, Tokens, up_to
from cai.engines._requests import Reading, Writing


@dataclass(frozen=True, kw_only=True)
class Job:
    """What has to be done for a ticket."""

    ticket: int
    task: Writing | Reading

    @property
    def tokens(self) -> int:
        """How many tokens have to be read before its first answer."""
        return sum(map(len, sequences(self.task)))


@dataclass(kw_only=True)
class Pack:
    """Sequences for one pass. Output row r of the pass comes from token `keep[r]`.

    `texts` says which output row begins each text; `readings`, for each answer of a reading, in which output
    row to find each of its tokens.
    """

    ids: list[int]
    lengths: list[int]
    slots: list[int | None]
    keep: list[int]
    texts: list[tuple[Job, int]]
    readings: list[tuple[Job, list[list[tuple[int, int]]]]]


def sequences(task: Writing | Reading) -> list[tuple[int, ...]]:
    """What the model has to read: answers that differ in their last token alone share one sequence."""
    if isinstance(task, Writing):
        return [task.prompt]
    return [task.prompt + stem for stem in dict.fromkeys(answer[:-1] for answer in task.answers)]


def pack(jobs: Sequence[Job], slot: int) -> Pack:
    """Lay the jobs' sequences end to end; texts get the slots from `slot` on."""
    packed = Pack(ids=[], lengths=[], slots=[], keep=[], texts=[], readings=[])
    for job in jobs:
        if isinstance(job.task, Writing):
            packed.texts.append((job, len(packed.keep)))
            _add(packed, job.task.prompt, slot + len(packed.texts) - 1, 1)
        else:
            packed.readings.append((job, _add_reading(packed, job.task)))
    return packed


def prompt_inputs(packed: Pack, cache: KeyValues, device: torch.device) -> dict[str, Any]:
    """The arguments of the model's pass over a pack; padded, so no kernel meets a tiny number of rows."""
    positions = [at for length in packed.lengths for at in range(length)]
    return {
        "input_ids": _padded(packed.ids, device)[None],
        "position_ids": _padded(positions, device)[None],
        "logits_to_keep": _padded(packed.keep, device),
        "plan": Prompts(cache=cache, lengths=packed.lengths, slots=packed.slots),
        "use_cache": False,
    }


def token_inputs(
    newest: Sequence[int], lengths: Sequence[int], cache: KeyValues, device: torch.device
) -> dict[str, Any]:
    """The arguments of the model's pass over the newest token of each row, which has `lengths` tokens in the
    cache.
    """
    positions = _padded(lengths, device)
    # Below LEAST a product may be small enough for torch's other way to multiply, which rounds otherwise.
    length = max(LEAST, up_to(max(lengths) + 1, CELL))
    return {
        "input_ids": _padded(newest, device)[None],
        "position_ids": positions[None],
        "plan": Tokens(cache=cache, positions=positions, length=length),
        "use_cache": False,
    }


def _padded(numbers: Sequence[int], device: torch.device) -> Tensor:
    return torch.tensor([*numbers, *[0] * (up_to(len(numbers), CELL) - len(numbers))], device=device)


def _add(packed: Pack, sequence: tuple[int, ...], slot: int | None, outputs: int) -> None:
    """Append a sequence whose last `outputs` tokens each give an output row."""
    packed.ids.extend(sequence)
    packed.lengths.append(len(sequence))
    packed.slots.append(slot)
    packed.keep.extend(range(len(packed.ids) - outputs, len(packed.ids)))


def _add_reading(packed: Pack, task: Reading) -> list[list[tuple[int, int]]]:
    first: dict[tuple[int, ...], int] = {}
    for sequence in sequences(task):
        stem = sequence[len(task.prompt) :]
        first[stem] = len(packed.keep)
        _add(packed, sequence, None, len(stem) + 1)
    return [[(first[answer[:-1]] + at, token) for at, token in enumerate(answer)] for answer in task.answers]
