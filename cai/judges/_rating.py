"""The question that has one answer rated, and demonstrations of it, a line of JSON each:

{"prompt": "...", "answer": "...", "preference": "...", "rating": 7}
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from string import Template
from typing import Any, ClassVar

from cai.constitution import Principle
from cai.few_shots import lines
from cai.questions import Question
from cai.records import Message, Messages, assistant, digest, user


@dataclass(frozen=True, kw_only=True)
class Rating(Question):
    """What is asked about one answer; $preference, or $critique in its place, is filled with a principle's.

    The options are whole numbers, from 0 to 10 or some of these, the higher the better.
    """

    labels: ClassVar[tuple[str, ...]] = tuple(map(str, range(11)))
    needless: ClassVar[frozenset[str]] = frozenset(labels)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.listed) < 2:
            raise ValueError("'options' has no two numbers; a scale needs them")
        if any(len(texts) > 1 for texts in self.options.values()):
            raise ValueError("'options' has several texts for a number; leave one of them")

    @property
    def filled(self) -> frozenset[str]:
        return frozenset(
            {"critique" if "critique" in Template(self.request).get_identifiers() else "preference"}
        )

    @property
    def scale(self) -> frozenset[int]:
        """The numbers that it can be answered with."""
        return frozenset(int(label) for label, texts in self.options.items() if texts)

    def about(self, prompt: Messages, answer: str, principle: Principle) -> Messages:
        """The chat that asks about `answer` under a principle."""
        return self.messages(prompt, answer, **{name: getattr(principle, name) for name in self.filled})

    def said(self, rating: int) -> str:
        """The whole reply that gives this rating."""
        return self.verdict + self.options[str(rating)][0]


@dataclass(frozen=True, kw_only=True)
class RatingShot:
    """One answer and its rating by a rule."""

    prompt: str
    answer: str
    preference: str
    rating: int


@dataclass(frozen=True, kw_only=True)
class RatingShots:
    """Demonstrations of rating."""

    shots: tuple[RatingShot, ...]

    @classmethod
    def from_toml(cls, value: Any, where: str) -> "RatingShots":
        """The demonstrations that a configuration key names: a path, or the bare name of shipped ones."""
        return cls(shots=tuple(lines(value, RatingShot, where)))

    @cached_property
    def fingerprint(self) -> str:
        return digest("rating shots", [asdict(shot) for shot in self.shots])

    def check(self, question: Rating) -> None:
        """Refuse, with a `ValueError`, a question that these demonstrate nothing of."""
        if question.reason or "preference" not in question.filled:
            raise ValueError(
                "'few_shots' show ratings by $preference, read at once; 'question' asks otherwise"
            )
        for shot in self.shots:
            if shot.rating not in question.scale:
                raise ValueError(f"'few_shots' has a rating of {shot.rating}, which is none of the options")

    def messages(self, question: Rating) -> Messages:
        """The demonstrations as one dialogue."""
        return _rendered(self.shots, question)


# Rendered once, not for each request that they go before.
@cache
def _rendered(shots: tuple[RatingShot, ...], question: Rating) -> Messages:
    return tuple(message for shot in shots for message in _rated(shot, question))


def _rated(shot: RatingShot, question: Rating) -> Iterator[Message]:
    yield from question.messages((user(shot.prompt),), shot.answer, preference=shot.preference)
    yield assistant(question.said(shot.rating))
