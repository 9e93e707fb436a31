"""Two candidates of a comparison as an annotation has them, beside the truth: one flat row a pair."""

from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

from cai.evals import VerdictRow
from cai.gold import Utilities
from cai.records import Annotation, Candidate, Comparison

COMBINED = "combined"
UNKNOWN = "unknown"


# Who judged (None: all together), the two candidates' positions, and the row.
Pair = tuple[Annotation | None, int, int, VerdictRow]


def judged(
    comparison: Comparison, judges: Sequence[Annotation], truths: Sequence[Utilities]
) -> Iterator[Pair]:
    """Every two candidates and their row, by each judge, and by several together if these are all there are.

    `truths` are each judge's, under its own principle; of several it is their sum. A judge without weight
    (whose word a calibrated one stands for) is no part of the several.
    """
    for judge, truth in zip(judges, truths, strict=True):
        yield from _pairs(comparison, judge, truth)
    counted = [truth for judge, truth in zip(judges, truths, strict=True) if judge.weight > 0]
    if len(counted) > 1 and len(judges) == len(comparison.annotations):
        yield from _pairs(comparison, None, _sum(counted))


def _sum(truths: Sequence[Utilities]) -> Utilities:
    known = [truth for truth in truths if truth is not None]
    return [sum(each) for each in zip(*known, strict=True)] if len(known) == len(truths) else None


def _pairs(comparison: Comparison, annotation: Annotation | None, utilities: Utilities) -> Iterator[Pair]:
    """Who says with what probability that the first of two is better.

    Without an annotation it is what all of them come to. `better` is "one", "other", "tie", or "unknown"
    without utilities. `p_one_first` and `p_one_second` are P(one) where it was shown before the other and
    after it, if both were asked.
    """
    for one, other in combinations(range(len(comparison.candidates)), 2):
        row: VerdictRow = {
            "comparison": comparison.id,
            "prompt": comparison.prompt_id,
            "of": COMBINED if annotation is None else named(annotation),
            "request": comparison.prompt[-1]["content"],
            "principle": _principle(comparison, annotation),
            "better": _better(utilities, one, other),
            **_texts(comparison.candidates[one], comparison.candidates[other]),
        }
        if annotation is None:
            yield None, one, other, {**row, "p_one": _share_of(comparison.probabilities, one, other)}
            continue
        row["p_one"] = _share_of(annotation.probabilities, one, other)
        row["own_one"] = _own(comparison.candidates[one], annotation)
        row["own_other"] = _own(comparison.candidates[other], annotation)
        yield annotation, one, other, {**row, **_orders(annotation, one, other)}


def named(annotation: Annotation) -> str:
    """Who judged, and by which model, if one did: "reasoned by sl-cai"."""
    model = Path(annotation.model).name
    return f"{annotation.annotator} by {model}" if model else annotation.annotator


def _principle(comparison: Comparison, annotation: Annotation | None) -> str:
    """The one that all say they judged by; "" when they differ."""
    annotations = comparison.annotations if annotation is None else (annotation,)
    found = {one.principle for one in annotations}
    return found.pop() if len(found) == 1 else ""


def _better(utilities: Utilities, one: int, other: int) -> str:
    if utilities is None:
        return UNKNOWN
    difference = utilities[one] - utilities[other]
    return "tie" if difference == 0 else "one" if difference > 0 else "other"


def _texts(one: Candidate, other: Candidate) -> VerdictRow:
    return {
        "model_one": one.model,
        "model_other": other.model,
        "length_one": len(one.text),
        "length_other": len(other.text),
    }


def _own(candidate: Candidate, annotation: Annotation) -> bool:
    """Whether the judge wrote the candidate: by the digests of the weights, or else by the models' names."""
    if candidate.weights and annotation.weights:
        return candidate.weights == annotation.weights
    return bool(candidate.model) and candidate.model == annotation.model


def _orders(annotation: Annotation, one: int, other: int) -> VerdictRow:
    """P(one is better) on average over the orders that show it before the other, and over those after."""
    read: dict[bool, list[float]] = {True: [], False: []}
    for order, shown in zip(annotation.orders, annotation.shown, strict=True):
        read[shown.index(one) < shown.index(other)].append(_share_of(order, one, other))
    if not read[True] or not read[False]:
        return {}
    ahead, behind = (sum(found) / len(found) for found in (read[True], read[False]))
    return {"p_one_first": ahead, "p_one_second": behind}


def _share_of(probabilities: Sequence[float], one: int, other: int) -> float:
    """P(one) among the two; even where the annotator gives both nothing."""
    both = probabilities[one] + probabilities[other]
    return probabilities[one] / both if both else 0.5
