"""Fit a calibration to the verdicts of one judge, where the truth is known."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import log

from cai.annotations import CERTAIN
from cai.calibration import Calibration, Method
from cai.errors import CaiError
from cai.evals import Number
from cai.evals._judging import ERROR, verdicts_of
from cai.evals._pairs import judged
from cai.evals._reliability import Judged, calibration_error
from cai.gold import Gold
from cai.logistic import sigmoid
from cai.records import Comparison

_HALVINGS = 64


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What one annotator, by name and model's weights, said of pairs of which one is truly better."""

    annotator: str
    weights: str
    judged: tuple[Judged, ...]


def sample(comparisons: Iterable[Comparison], gold: Gold, annotator: str | None = None) -> Sample:
    """The verdicts of the annotator, or of the only one there is, against the truth.

    Annotations without weight, for which a calibrated one stands, are left out. Raises `CaiError` where
    several annotators could be meant, and where there is no verdict that the truth is known of.
    """
    found: dict[tuple[str, str], list[Judged]] = {}
    for comparison in comparisons:
        for one in comparison.annotations:
            if one.weight <= 0 or gold.is_by(one) or annotator not in (None, one.annotator):
                continue
            truth = gold.utilities(comparison, one.principle)
            said = found.setdefault((one.annotator, one.weights), [])
            said += verdicts_of([row for *_, row in judged(comparison, [one], [truth])])
    names = sorted({name for name, _ in found})
    if len(names) > 1:
        listed = ", ".join(f"'{name}'" for name in names)
        raise CaiError(f"several annotated these comparisons ({listed})", next="name one with --annotator")
    if len(found) > 1:
        mixed = f"'{names[0]}' judged with several models' weights"
        raise CaiError(mixed, next="give the comparisons of one model")
    if not any(found.values()):
        whose = f"of '{annotator}' " if annotator else ""
        raise CaiError(
            f"no verdict {whose}that '{gold.source}' knows the truth of",
            next="check both names" if annotator else "check the name",
        )
    [((name, weights), said)] = found.items()
    return Sample(annotator=name, weights=weights, judged=tuple(said))


def fit(sample: Sample, method: Method, gold: str) -> Calibration:
    """The map that fits the verdicts best."""
    temperature = method == "temperature"
    return Calibration(
        method=method,
        annotator=sample.annotator,
        weights=sample.weights,
        slope=_slope(sample.judged) if temperature else 1.0,
        knots=() if temperature else tuple(_knots(sample.judged)),
        n=len(sample.judged),
        gold=gold,
    )


def mapped(judged: Iterable[Judged], calibration: Calibration) -> list[Judged]:
    """The same verdicts through the map."""
    return [Judged(prompt=one.prompt, p=calibration.apply((one.p, 1 - one.p))[0]) for one in judged]


def errors(sample: Sample, calibration: Calibration) -> list[Number]:
    """The calibration error of the verdicts before and after the map."""
    numbers = []
    for when, verdicts in (("before", sample.judged), ("after", mapped(sample.judged, calibration))):
        value, (low, high) = calibration_error(verdicts)
        numbers.append(
            Number(
                name=ERROR,
                of=f"{sample.annotator}, {when}",
                value=value,
                low=low,
                high=high,
                n=len(verdicts),
                unit="share",
            )
        )
    return numbers


def _slope(judged: Sequence[Judged]) -> float:
    """The slope of least log-loss, 0 or above.

    The truth counts as (n + 1) / (n + 2) likely, not as certain (Platt 1999), so that a judge that is always
    right has a finite slope.
    """
    target = (len(judged) + 1) / (len(judged) + 2)
    odds = [log(max(one.p, CERTAIN) / max(1 - one.p, CERTAIN)) for one in judged]

    def falling(slope: float) -> bool:
        """Whether the loss still falls at this slope; it is convex."""
        return sum(x * (target - sigmoid(slope * x)) for x in odds) > 0

    if not falling(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while falling(high):
        low, high = high, 2 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) else (low, middle)
    return (low + high) / 2


def _knots(judged: Sequence[Judged]) -> Iterable[tuple[float, float]]:
    """Pool adjacent violators (Ayer et al. 1955) over the confidences; the ends of every pool.

    A share lies between 0.5, below which the map would name the other candidate, and (n + 1) / (n + 2), for
    nothing seen n times is certain.
    """
    pools: list[list[float]] = []  # right, count, least and greatest confidence
    for one in sorted(judged, key=lambda one: one.confidence):
        if pools and pools[-1][3] == one.confidence:
            pools[-1][0] += one.right
            pools[-1][1] += 1
        else:
            pools.append([one.right, 1, one.confidence, one.confidence])
    merged: list[list[float]] = []
    for pool in pools:
        merged.append(pool)
        while len(merged) > 1 and merged[-2][0] * merged[-1][1] >= merged[-1][0] * merged[-2][1]:
            right, count, _, greatest = merged.pop()
            merged[-1] = [merged[-1][0] + right, merged[-1][1] + count, merged[-1][2], greatest]
    most = (len(judged) + 1) / (len(judged) + 2)
    yield 0.5, 0.5
    for right, count, least, greatest in merged:
        share = min(max(right / count, 0.5), most)
        yield least, share
        if greatest > least:
            yield greatest, share
