"""Each answer rated apart, and P(first) by the difference of the ratings.

Direct rating as in direct-RLAIF (Lee et al. 2023, arXiv 2309.00267): the rating is the expected value over
the probabilities of the numbers, s = sum_i i P(i) / sum_i P(i). There it is the reward itself; here the
difference of two ratings is made a preference by the rule of Bradley and Terry (1952).
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

from cai.config import key
from cai.constitution import Principle
from cai.judges import Unreadable, Verdict
from cai.judges._apart import by_difference
from cai.judges._rating import Rating, RatingShots
from cai.questions import Opinion, Questioning
from cai.records import Messages
from cai.stages import Asking, together
from cai.stages._asking import lead


@cache
def _rating() -> Rating:
    return Rating.from_toml("rating", "question")


@dataclass(frozen=True, kw_only=True)
class Score(Questioning):
    """One request an answer, or two where the question asks for reasoning.

    Neither answer is seen beside the other.
    P(first) = sigmoid((rating of first - rating of second) / temperature).
    """

    both_orders: ClassVar[bool] = False

    question: Rating = key(factory=_rating, help="What is asked about an answer: a TOML file [rating].")
    few_shots: RatingShots | None = key(None, "Demonstrations: a JSON lines file.")
    temperature: float = key(1.0, "How many points of rating stand for odds of e to 1.")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_reasoning(self.question)
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"'temperature' is {self.temperature:g}; write a number above 0")
        if self.few_shots:
            self.few_shots.check(self.question)

    def judge(
        self, prompt: Messages, first: str, second: str, principle: Principle, seed: int
    ) -> Asking[Verdict | Unreadable]:
        shots = self.few_shots.messages(self.question) if self.few_shots else ()
        opinions = yield from together(
            [
                self.ask(self.question, lead(shots, self.question.about(prompt, answer, principle)))
                for answer in (first, second)
            ]
        )
        rated: list[Opinion] = []
        for opinion in opinions:
            if isinstance(opinion, Unreadable):
                return opinion
            rated.append(opinion)
        one, other = map(_expected, rated)
        return Verdict(
            p_first=by_difference(one, other, self.temperature),
            orders=(),
            scores=(one, other),
            note=_note(rated),
            model=rated[0].model,
            weights=rated[0].weights,
        )


def _expected(opinion: Opinion) -> float:
    """The mean rating under the numbers' probabilities."""
    return math.fsum(p * int(label) for label, p in opinion.probabilities.items())


def _note(rated: list[Opinion]) -> str:
    if not any(opinion.note for opinion in rated):
        return ""
    return f"[of the first answer]\n{rated[0].note}\n[of the second answer]\n{rated[1].note}"
