"""Each answer rated apart, and P(first) by the difference of the ratings.

Direct rating as in direct-RLAIF (Lee et al. 2023, arXiv 2309.00267): the rating is the expected value over
the probabilities of the numbers, s = sum_i i P(i) / sum_i P(i). There it is the reward itself; here the
difference of two ratings is made a preference by the rule of Bradley and Terry (1952).
"""

import math
from dataclasses import dataclass
from functools import cache

from cai.config import key
from cai.constitution import Principle
from cai.engines import Options, Reply, Request
from cai.judges import Unreadable, Verdict
from cai.judges._apart import by_difference
from cai.judges._mass import check_min_mass, no_verdict
from cai.judges._rating import Rating, RatingShots
from cai.records import Messages
from cai.stages import Asking
from cai.stages._asking import lead


@cache
def _rating() -> Rating:
    return Rating.from_toml("rating", "question")


@dataclass(frozen=True, kw_only=True)
class Score:
    """One request an answer; nothing is sampled, and neither answer is seen beside the other.

    P(first) = sigmoid((rating of first - rating of second) / temperature).
    """

    question: Rating = key(factory=_rating, help="What is asked about an answer: a TOML file [rating].")
    few_shots: RatingShots | None = key(None, "Demonstrations: a JSON lines file.")
    min_mass: float = key(0.1, "The least probability that all numbers together must have.")
    temperature: float = key(1.0, "How many points of rating stand for odds of e to 1.")

    def __post_init__(self) -> None:
        check_min_mass(self.min_mass)
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"'temperature' is {self.temperature:g}; write a number above 0")
        for shot in self.few_shots.shots if self.few_shots else ():
            if shot.rating not in self.question.numbers:
                raise ValueError(f"'few_shots' has a rating of {shot.rating}, which is none of the options")

    def judge(
        self, prompt: Messages, first: str, second: str, principle: Principle, seed: int
    ) -> Asking[Verdict | Unreadable]:
        replies = yield [self._request(prompt, answer, principle) for answer in (first, second)]
        for reply in replies:
            if reply.error:
                return Unreadable(reason=f"engine: {reply.error}")
            if reason := no_verdict(reply.logps, self.min_mass):
                return Unreadable(reason=reason)
        one, other = map(self._expected, replies)
        return Verdict(
            p_first=by_difference(one, other, self.temperature),
            orders=(),
            scores=(one, other),
            model=replies[0].model,
            weights=replies[0].weights,
        )

    def _request(self, prompt: Messages, answer: str, principle: Principle) -> Request:
        shots = self.few_shots.messages(self.question) if self.few_shots else ()
        asked = self.question.messages(prompt, answer, preference=principle.preference)
        return Request(
            messages=lead(shots, asked),
            want=Options(options=self.question.listed),
            prefix=self.question.verdict,
        )

    def _expected(self, reply: Reply) -> float:
        """The mean rating under the options' probabilities."""
        top = max(reply.logps)
        shares = [math.exp(logp - top) for logp in reply.logps]
        return math.fsum(
            share * number for share, number in zip(shares, self.question.numbers, strict=True)
        ) / math.fsum(shares)
