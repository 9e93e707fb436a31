"""A reward model as a judge: P(first) by the difference of the two answers' scores.

The model's own training says what a difference is worth: under Bradley and Terry (1952), as
`cai train reward` fits it, P(first) = sigmoid(score(first) - score(second)).
"""

from dataclasses import dataclass
from typing import ClassVar

from cai.constitution import Principle
from cai.engines import Request, Worth
from cai.judges import Unreadable, Verdict
from cai.judges._apart import by_difference
from cai.records import Messages
from cai.stages import Asking


@dataclass(frozen=True, kw_only=True)
class Reward:
    """Each answer is scored apart, by an engine whose model is a reward model's folder.

    No principle is read.
    """

    principled: ClassVar[bool] = False
    both_orders: ClassVar[bool] = False

    def judge(
        self, prompt: Messages, first: str, second: str, principle: Principle | None, seed: int
    ) -> Asking[Verdict | Unreadable]:
        replies = yield [Request(messages=prompt, want=Worth(completion=text)) for text in (first, second)]
        for reply in replies:
            if reply.error:
                return Unreadable(reason=f"engine: {reply.error}")
        scores = tuple(reply.score for reply in replies)
        return Verdict(
            p_first=by_difference(*scores),
            orders=(),
            scores=scores,
            model=replies[0].model,
            weights=replies[0].weights,
        )
