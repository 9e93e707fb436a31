"""A map from a judge's probabilities to ones that are as sure as they are right.

It is fitted where the truth is known (`cai.calibrating`). The maps are symmetric: what they make of p and of
1 - p sums to 1, so no candidate's place matters.
"""

import json
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import exp, log
from pathlib import Path
from typing import Any, Literal

from cai.annotations import CERTAIN
from cai.config import build
from cai.errors import CaiError
from cai.records import Annotation, digest

Method = Literal["temperature", "isotonic"]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What was fitted to `n` verdicts of one annotator, told by its name and its model's weights.

    temperature: the log-odds times `slope` (1 / temperature; Guo et al. 2017), which is 0 for a judge that
    knows nothing or worse. isotonic: the confidence through the `knots` (confidence, share that is right),
    straight between them (Zadrozny and Elkan 2002). `gold` is the truth it was fitted to.
    """

    method: Method
    annotator: str
    weights: str = ""
    slope: float = 1.0
    knots: tuple[tuple[float, ...], ...] = ()
    n: int
    gold: str = ""

    @classmethod
    def from_toml(cls, value: Any, where: str) -> "Calibration":
        """From the path of the JSON file that `cai calibration` wrote."""
        if not isinstance(value, str | Path):
            raise CaiError(f"this is {value!r}", where=where, next="write the path of a calibration")
        try:
            table = json.loads(Path(value).read_text(encoding="utf-8"))
        except OSError as error:
            unreadable = f"cannot be read ({error.strerror})"
            raise CaiError(unreadable, where=str(value), next="make it with cai calibration") from error
        except ValueError as error:
            raise CaiError(
                "this is no JSON", where=str(value), next="make it with cai calibration"
            ) from error
        if not isinstance(table, Mapping):
            raise CaiError("this is no calibration", where=str(value), next="make it with cai calibration")
        return build(cls, table, str(value))

    @property
    def fingerprint(self) -> str:
        return digest("calibration", asdict(self))

    def is_of(self, annotation: Annotation) -> bool:
        """Whether it was fitted to this annotator's word, and that is still counted."""
        who = (annotation.annotator, annotation.weights)
        return who == (self.annotator, self.weights) and annotation.weight > 0

    def apply(self, probabilities: Sequence[float]) -> tuple[float, ...]:
        """The probabilities of the candidates; `ValueError` for an isotonic map of more than two."""
        if self.method == "temperature":
            logs = [self.slope * log(max(p, CERTAIN)) for p in probabilities]
            shares = [exp(one - max(logs)) for one in logs]
            return tuple(share / sum(shares) for share in shares)
        if len(probabilities) != 2:
            raise ValueError(f"an isotonic map takes two candidates, and there are {len(probabilities)}")
        first = self._first(probabilities[0] / sum(probabilities))
        return first, 1 - first

    def _first(self, p: float) -> float:
        if p == 0.5:
            return p
        surer = _between(self.knots, max(p, 1 - p))
        return surer if p > 0.5 else 1 - surer


def _between(knots: Sequence[Sequence[float]], x: float) -> float:
    """Straight between the knots, level beyond the last."""
    at = bisect_left(knots, x, key=lambda knot: knot[0])
    if at == len(knots):
        return knots[-1][1]
    (low, below), (high, above) = knots[at - 1], knots[at]
    return above if high == low else below + (above - below) * (x - low) / (high - low)
