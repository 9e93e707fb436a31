"""Reading a verdict as option probabilities, and making one of two orders: shared by the judges that do."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cai.config import key
from cai.constitution import Principle
from cai.engines import Options, Reply, Request
from cai.few_shots import JudgeShots
from cai.frames import JudgeFrame, default_judge
from cai.judges import Unreadable, Verdict
from cai.records import Messages, user
from cai.stages._asking import lead

# log-odds are taken of probabilities no nearer to 0 and 1 than this: past it they say nothing but "certain".
CERTAIN = 1e-9


@dataclass(frozen=True, kw_only=True)
class Reading:
    """P(the answer shown as A is better) as read in one order, with the reasoning before it, if any."""

    p_a: float
    note: str = ""
    model: str = ""
    weights: str = ""


@dataclass(frozen=True, kw_only=True)
class OptionJudge:
    """The keys of a judge that reads the probabilities of the frame's two options."""

    frames: JudgeFrame = key(factory=default_judge, help="The chat around the principles: a TOML file.")
    few_shots: JudgeShots | None = key(None, "Demonstrations: a JSON lines file.")
    min_mass: float = key(0.1, "The least probability that both options together must have.")
    average: Literal["probability", "logodds"] = key("probability", "What is averaged over the two orders.")

    def __post_init__(self) -> None:
        if not 0 <= self.min_mass <= 1:
            raise ValueError(f"'min_mass' is {self.min_mass:g}; write a number from 0 to 1")

    def messages(self, prompt: Messages, a: str, b: str, principle: Principle, *, reasoned: bool) -> Messages:
        """Demonstrations, then the question about answers `a` and `b`."""
        instruction = self.frames.reason if reasoned else self.frames.choose
        shots = self.few_shots.messages(self.frames, reasoned) if self.few_shots else ()
        question = self.frames.question(prompt, a, b, principle.preference, instruction)
        return lead(shots, (user(question),))

    def options(self, messages: Messages, prefix: str) -> Request:
        return Request(messages=messages, want=Options(options=self.frames.options), prefix=prefix)

    def read(self, reply: Reply, note: str = "") -> Reading | Unreadable:
        """P(A) = p_A / (p_A + p_B), where both together have at least `min_mass`."""
        if reply.error:
            return Unreadable(reason=f"engine: {reply.error}", raw=note)
        log_a, log_b = reply.logps
        mass = math.exp(log_a) + math.exp(log_b)
        if mass < self.min_mass or mass == 0:
            return Unreadable(reason=f"no verdict: the options have {mass:.3f} of the probability", raw=note)
        p_a = 1 / (1 + math.exp(min(log_b - log_a, 700)))
        return Reading(p_a=p_a, note=note, model=reply.model, weights=reply.weights)

    def verdict(
        self, readings: Sequence[Reading | Unreadable], clamp: tuple[float, float] = (0.0, 1.0)
    ) -> Verdict | Unreadable:
        """Both orders as one verdict: the first answer was A in the first reading and B in the second.

        `clamp` bounds each order's P(A) before the averaging; `orders` are as read.
        """
        read: list[Reading] = []
        for reading in readings:
            if isinstance(reading, Unreadable):
                return reading
            read.append(reading)
        ahead, behind = read
        low, high = clamp
        bounded = [min(max(reading.p_a, low), high) for reading in read]
        return Verdict(
            p_first=mean(bounded[0], 1 - bounded[1], self.average),
            orders=(ahead.p_a, 1 - behind.p_a),
            note=_note(ahead, behind),
            model=ahead.model,
            weights=ahead.weights,
        )


def mean(one: float, other: float, average: Literal["probability", "logodds"]) -> float:
    """The mean of two probabilities (Lee et al. 2023, arXiv 2309.00267), or of their log-odds."""
    if average == "probability":
        return (one + other) / 2
    odds = [min(max(p, CERTAIN), 1 - CERTAIN) for p in (one, other)]
    logit = sum(math.log(p / (1 - p)) for p in odds) / 2
    return 1 / (1 + math.exp(-logit))


def _note(ahead: Reading, behind: Reading) -> str:
    if not ahead.note and not behind.note:
        return ""
    return f"[first answer shown as A]\n{ahead.note}\n[first answer shown as B]\n{behind.note}"
