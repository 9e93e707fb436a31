"""The way that works for every model: one text at a time through the model's own forward pass and cache."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cai.engines._lane import Done, Row, Speaker, read
from cai.engines._packing import Job, pack, sequences
from cai.engines._requests import Reading, Writing
from cai.engines._sampling import choose


class PlainLane:
    """What `Lane` is, for models whose attention cannot be driven in packed steps (recurrent ones, say)."""

    def __init__(self, model: Any, speaker: Speaker, *, slots: int) -> None:
        self.slots = slots
        self._model, self._speaker = model, speaker
        self._rows: list[tuple[Row, Any]] = []

    @property
    def free(self) -> int:
        """How many more texts can be begun."""
        return self.slots - len(self._rows)

    @property
    def jobs(self) -> list[Job]:
        """The jobs of the texts in the making."""
        return [row.job for row, _ in self._rows]

    def start(self, jobs: Sequence[Job]) -> list[Done]:
        """Read new jobs' prompts; what that finishes."""
        done: list[Done] = []
        for job in jobs:
            if isinstance(job.task, Writing):
                logits, cache = self._forward(job.task.prompt, None)
                done += self._advance(Row(job), logits, cache)
            else:
                done += read(pack([job], 0), self._outputs(job.task))
        return done

    def step(self) -> list[Done]:
        """One more token for each text in the making; those that it finishes."""
        rows, self._rows = self._rows, []
        done: list[Done] = []
        for row, cache in rows:
            # A model that hands back no such cache (its state has another name) reads the whole text again.
            unread = row.written[-1:] if cache is not None else [*row.task.prompt, *row.written]
            logits, grown = self._forward(unread, cache)
            done += self._advance(row, logits, grown)
        return done

    def halve(self, error: torch.OutOfMemoryError) -> None:
        """Give up the texts in the making and make fewer at once. Raises `error` when that cannot be."""
        if self.slots == 1:
            raise error
        self.slots //= 2
        self._rows.clear()

    def _outputs(self, task: Reading) -> Tensor:
        """The output rows that `pack` counts on."""
        before = len(task.prompt) - 1
        return torch.cat([self._forward(sequence, None)[0][before:] for sequence in sequences(task)])

    def _forward(self, ids: Sequence[int], cache: Any) -> tuple[Tensor, Any]:
        asked = torch.tensor([list(ids)], device=self._model.device)
        output = self._model(input_ids=asked, past_key_values=cache, use_cache=True)
        return output.logits[0], getattr(output, "past_key_values", None)

    def _advance(self, row: Row, logits: Tensor, cache: Any) -> list[Done]:
        [(token, logp)] = choose(logits[-1:], [row.task.sampling], [row.uniform()])
        if outcome := row.grow(token, logp, self._speaker):
            return [outcome]
        self._rows.append((row, cache))
        return []
