"""Reasoning first, then the verdict as the probabilities of the two options straight after it.

Bai et al. 2022 (arXiv 2212.08073), sections 2 and 4.1, where the probabilities, which reasoning drives
towards 0 and 1, are clamped to 40-60 % (4.3); both orders averaged as in Lee et al. 2023 (arXiv 2309.00267).
Several reasonings, their probabilities averaged, are section 2's "small boost" (there five) and
self-consistency (Wang et al. 2022, arXiv 2203.11171); Lee et al. found 16 of them worse than one greedy one.
"""

import re
from dataclasses import dataclass
from functools import cache

from cai.config import key
from cai.constitution import Principle
from cai.engines import Request, Sampling
from cai.frames import JudgeFrame
from cai.judges import Unreadable, Verdict
from cai.judges._options import OptionJudge, Reading
from cai.records import Messages, draw_seed
from cai.stages import Asking, together
from cai.stages._asking import check_sampling


@dataclass(frozen=True, kw_only=True)
class Reasoned(OptionJudge):
    """Two requests for each reasoning. Where it holds a verdict of its own, it is read there.

    All reasonings must be readable.
    """

    temperature: float = key(0.0, "Sampling temperature of the reasoning; 0 is greedy.")
    max_tokens: int = key(512, "The most tokens the reasoning may have.")
    clamp: tuple[float, float] | None = key(
        None, "Bounds of each reading's probability, such as 0.4 and 0.6."
    )
    samples: int = key(1, "How many reasonings there are in each order; their probabilities are averaged.")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sampling(self.max_tokens, self.temperature)
        if self.samples < 1:
            raise ValueError(f"'samples' is {self.samples}; write a number above 0")
        if self.samples > 1 and self.temperature == 0:
            alike = f"'samples' is {self.samples}, and greedy reasonings are all alike"
            raise ValueError(f"{alike}; set a temperature above 0")
        if self.clamp is not None and not (
            len(self.clamp) == 2 and 0 <= self.clamp[0] < 0.5 < self.clamp[1] <= 1
        ):
            raise ValueError(
                f"'clamp' is {list(self.clamp)}; write two probabilities, one on each side of 0.5"
            )

    def judge(
        self, prompt: Messages, first: str, second: str, principle: Principle, seed: int
    ) -> Asking[Verdict | Unreadable]:
        orders = self.shown(first, second)
        readings = yield from together(
            [
                self._sample(self.messages(prompt, a, b, principle, reasoned=True), _seed(seed, at, sample))
                for at, (a, b) in enumerate(orders)
                for sample in range(self.samples)
            ]
        )
        by_order = [readings[at * self.samples :][: self.samples] for at in range(len(orders))]
        return self.verdict(by_order, self.clamp or (0.0, 1.0))

    def _sample(self, messages: Messages, seed: int) -> Asking[Reading | Unreadable]:
        want = Sampling(max_tokens=self.max_tokens, temperature=self.temperature)
        [reply] = yield [Request(messages=messages, want=want, seed=seed)]
        if reply.error:
            return Unreadable(reason=f"engine: {reply.error}")
        if not reply.text.strip():
            return Unreadable(reason="no reasoning", raw=reply.text)
        reasoning, concluded = before_verdict(reply.text, self.frames)
        if reply.finish == "length" and not concluded:
            return Unreadable(reason="truncated reasoning", raw=reply.text)
        prefix = f"{reasoning}\n{self.frames.verdict}" if reasoning else self.frames.verdict
        [answer] = yield [self.options(messages, prefix)]
        return self.read(answer, reasoning)


def _seed(seed: int, order: int, sample: int) -> int:
    """The first sample's seed does not depend on how many there are."""
    return draw_seed(seed, "order", order, *((sample,) if sample else ()))


def before_verdict(text: str, frame: JudgeFrame) -> tuple[str, bool]:
    """What stands before the last line that gives a verdict, and whether there is one.

    A verdict is the frame's phrase and one of its options at the beginning of a line; a mention inside a
    sentence, or the phrase without an option, is reasoning. White space at the end is taken off, since the
    verdict follows on a line of its own.
    """
    found = list(_verdict_line(frame.verdict, frame.options).finditer(text))
    return text[: found[-1].start()].rstrip() if found else text.rstrip(), bool(found)


@cache
def _verdict_line(verdict: str, options: tuple[str, ...]) -> re.Pattern[str]:
    named = "|".join(re.escape(option.strip()) for option in options)
    return re.compile(
        rf"^[ \t*_#>]*{re.escape(verdict.strip())}[\s:*_(\"'“]*(?:{named})(?![^\W_])", re.MULTILINE
    )
