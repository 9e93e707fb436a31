"""Reading a verdict as option probabilities, and making one of two orders: shared by the judges that do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cai.annotations import Average, mean_first
from cai.config import key
from cai.constitution import Principle
from cai.engines import Options, Reply, Request
from cai.few_shots import JudgeShots
from cai.frames import JudgeFrame, default_judge
from cai.judges import Unreadable, Verdict
from cai.judges._apart import by_difference
from cai.judges._mass import check_min_mass, no_verdict
from cai.records import Messages, user
from cai.stages._asking import lead


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
    average: Average = key("probability", "What is averaged: over the two orders, and over several verdicts.")
    orders: Literal["both", "first"] = key(
        "both", "The orders to show the answers in; first: as they come, which leaves position bias in."
    )

    def __post_init__(self) -> None:
        check_min_mass(self.min_mass)

    @property
    def both_orders(self) -> bool:
        return self.orders == "both"

    def shown(self, first: str, second: str) -> list[tuple[str, str]]:
        """What is shown as A and as B, in each order that is asked for."""
        return [(first, second), (second, first)][: 2 if self.both_orders else 1]

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
        if reason := no_verdict(reply.logps, self.min_mass):
            return Unreadable(reason=reason, raw=note)
        return Reading(p_a=by_difference(log_a, log_b), note=note, model=reply.model, weights=reply.weights)

    def verdict(
        self, readings: Sequence[Sequence[Reading | Unreadable]], clamp: tuple[float, float] = (0.0, 1.0)
    ) -> Verdict | Unreadable:
        """The readings of each order, one or several, as one verdict.

        The first answer was A in the first order and B in the second. `clamp` bounds each reading's P(A)
        before the averaging; `orders` and `samples` are as read.
        """
        read: list[list[Reading]] = []
        for order in readings:
            read.append([])
            for reading in order:
                if isinstance(reading, Unreadable):
                    return reading
                read[-1].append(reading)
        low, high = clamp
        bounded = [_first(at, min(max(one.p_a, low), high)) for at, order in enumerate(read) for one in order]
        firsts = [[_first(at, one.p_a) for one in order] for at, order in enumerate(read)]
        samples = tuple(zip(*firsts, strict=True))
        return Verdict(
            p_first=mean_first(bounded, [1.0] * len(bounded), self.average),
            orders=tuple(mean_first(order, [1.0] * len(order), self.average) for order in firsts),
            samples=samples if len(samples) > 1 else (),
            note=_note(read),
            model=read[0][0].model,
            weights=read[0][0].weights,
        )


def _first(order: int, p_a: float) -> float:
    """P(first answer) from P(A)."""
    return p_a if order == 0 else 1 - p_a


def _note(read: Sequence[Sequence[Reading]]) -> str:
    if not any(reading.note for order in read for reading in order):
        return ""
    notes = []
    for label, order in zip("AB", read, strict=False):
        for at, reading in enumerate(order, start=1):
            sample = f", sample {at}" if len(order) > 1 else ""
            notes.append(f"[first answer shown as {label}{sample}]\n{reading.note}")
    return "\n".join(notes)
