"""The ids of a chat prompt, segment by segment: what stands between two control tokens is tokenised once.

A fast tokenizer takes out its special tokens first and reads what lies between them piece by piece, so the
ids of a text are those of its segments, each with the special token before it, one after the other. Frames
and demonstrations recur in every request; their segments are remembered.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import Any
from weakref import WeakKeyDictionary

# A judge's demonstrations are some tens of segments, a run has a few such frames at once.
_REMEMBERED = 2048

_known: "WeakKeyDictionary[Any, Segments]" = WeakKeyDictionary()


def ids_of(tokenizer: Any, text: str) -> list[int]:
    """Exactly `tokenizer(text, add_special_tokens=False)["input_ids"]`."""
    if not tokenizer.is_fast:
        # Not verbose: whoever asks checks the length against the window.
        return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
    segments = _known.get(tokenizer)
    if segments is None:
        segments = _known[tokenizer] = Segments(tokenizer.backend_tokenizer)
    return segments.ids(text)


class Segments:
    """A tokenizer of the `tokenizers` library that remembers segments."""

    def __init__(self, backend: Any) -> None:
        backend.no_truncation()
        backend.no_padding()
        # Longest first, as the tokenizer itself prefers them.
        words = sorted(_parting(backend), key=len, reverse=True)
        self._parting = re.compile("|".join(map(re.escape, words))) if words else None
        self._backend = backend
        self._segment = lru_cache(maxsize=_REMEMBERED)(self._whole)

    def ids(self, text: str) -> list[int]:
        """The ids of a text; nothing is added to it."""
        if self._parting is None:
            return list(self._whole(text))
        return [one for segment in self._cut(text, self._parting) for one in self._segment(segment)]

    def _cut(self, text: str, parting: "re.Pattern[str]") -> Iterator[str]:
        starts = [0, *(found.start() for found in parting.finditer(text) if found.start()), len(text)]
        return (text[start:end] for start, end in pairwise(starts))

    def _whole(self, text: str) -> tuple[int, ...]:
        return tuple(self._backend.encode(text, add_special_tokens=False).ids)


def _parting(backend: Any) -> list[str]:
    """The special tokens that part a text whatever stands around them.

    Not those that depend on their surroundings (a whole word only, or written in a normalised form). None at
    all where some token takes in the blanks before it, which are another segment's, or holds another.
    """
    added = list(backend.get_added_tokens_decoder().values())
    if any(token.lstrip for token in added):
        return []
    special = [token for token in added if token.special and not (token.single_word or token.normalized)]
    contents = [token.content for token in special if token.content]
    held = any(one.content != other and other in one.content for one in added for other in contents)
    return [] if held else contents
