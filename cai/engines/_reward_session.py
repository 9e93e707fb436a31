"""A loaded reward model: it scores whole conversations and writes nothing."""

from collections import deque
from collections.abc import Sequence
from typing import Any

import torch

from cai.chat import Example
from cai.engines import Reply, Request, Worth
from cai.errors import CaiError
from cai.records import assistant
from cai.training.scalar import encode_scored, score_examples


class RewardSession:
    """Takes requests for one reward model; tokenising and scoring are done by the caller's thread.

    On the CPU each conversation has a pass of its own, so that a score does not depend on what else is asked;
    on a GPU as many as are waiting are scored together.
    """

    def __init__(
        self, model: Any, tokenizer: Any, *, label: str, weights: str, batch: int, threads: int
    ) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._label, self._weights = label, weights
        self._together = batch if model.device.type == "cuda" else 1
        self._waiting: deque[tuple[int, Example | CaiError]] = deque()
        self._closed = False
        self._callers_threads = torch.get_num_threads()
        if threads:
            torch.set_num_threads(threads)

    @property
    def capacity(self) -> int:
        """As many as are scored together."""
        return self._together

    def submit(self, ticket: int, request: Request) -> None:
        """Queue a request. Raises `CaiError` when closed, and for one that asks for text."""
        if self._closed:
            raise CaiError("this engine is closed", next="open it again")
        if not isinstance(request.want, Worth):
            raise CaiError(
                f"model '{self._label}' gives scores, not text: it is a reward model",
                next='give a language model, or judge = "reward"',
            )
        talk = (*request.messages, assistant(request.want.completion))
        try:
            self._waiting.append((ticket, encode_scored(self._tokenizer, talk)))
        except CaiError as refusal:
            self._waiting.append((ticket, refusal))

    def poll(self) -> Sequence[tuple[int, Reply]]:
        """Score what waits, as many as go together; nothing when nothing was submitted."""
        taken = [self._waiting.popleft() for _ in range(min(self._together, len(self._waiting)))]
        found = iter(self._scored([one for _, one in taken if isinstance(one, Example)]))
        return [
            (ticket, next(found) if isinstance(one, Example) else self._refusal(one)) for ticket, one in taken
        ]

    def close(self) -> None:
        """Free the model."""
        self._closed = True
        self._waiting.clear()
        self._model = None
        torch.set_num_threads(self._callers_threads)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _scored(self, examples: Sequence[Example]) -> list[Reply]:
        try:
            scores = score_examples(self._model, examples)
        except CaiError as error:
            if len(examples) == 1:
                return [self._refusal(error)]
            return [reply for one in examples for reply in self._scored([one])]
        return [
            Reply(score=score, model=self._label, weights=self._weights, prompt_tokens=len(example.ids))
            for score, example in zip(scores, examples, strict=True)
        ]

    def _refusal(self, error: CaiError) -> Reply:
        why = f"{error.what}; {error.next}" if error.next else error.what
        return Reply(error=why, model=self._label, weights=self._weights)
