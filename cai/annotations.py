"""What several annotators thought of the same candidates, and the one vector that training uses.

A human is an annotator like any other, called "human:NAME"; where humans have spoken, their word stands in
the judges' place, and the judges' annotations stay beside it.
"""

import math
from collections.abc import Sequence
from typing import Literal

from cai.records import Annotation

Average = Literal["probability", "logodds"]
Humans = Literal["replace", "weigh"]

HUMAN = "human:"
# Logarithms are taken of probabilities no nearer to 0 and 1 than this: past it they only say "certain".
CERTAIN = 1e-9


def by_human(annotation: Annotation) -> bool:
    return annotation.annotator.startswith(HUMAN)


def combined(
    annotations: Sequence[Annotation], *, average: Average = "probability", humans: Humans = "replace"
) -> tuple[float, ...]:
    """The candidates' probabilities, one each, by all annotators that count: the mean by their weights.

    `humans` = "replace": where a human annotated, only humans count; "weigh": a human counts by weight, as
    everyone. Raises `ValueError` when there is no annotation.
    """
    heard = [one for one in annotations if by_human(one)] if humans == "replace" else []
    counted = heard or annotations
    return mean([one.probabilities for one in counted], [one.weight for one in counted], average)


def mean(vectors: Sequence[Sequence[float]], weights: Sequence[float], average: Average) -> tuple[float, ...]:
    """The weighted mean [K] of probability vectors [N][K], or, by their log-odds, of the ratios in them.

    "probability" is the linear opinion pool (Lee et al. 2023, arXiv 2309.00267, over two orders), "logodds"
    the logarithmic one: the geometric mean, made to sum to 1, which for K = 2 is the mean of the log-odds.
    Raises `ValueError` when there is no vector.
    """
    if not vectors:
        raise ValueError("there is nothing to average")
    whole = sum(weights)
    if average == "probability":
        return tuple(
            sum(weight * p for weight, p in zip(weights, each, strict=True)) / whole
            for each in zip(*vectors, strict=True)
        )
    logs = [[math.log(min(max(p, CERTAIN), 1 - CERTAIN)) for p in vector] for vector in vectors]
    # Relative to the first candidate, so that nothing but ratios is averaged.
    means = [
        sum(weight * (log - row[0]) for weight, log, row in zip(weights, each, logs, strict=True)) / whole
        for each in zip(*logs, strict=True)
    ]
    shares = [math.exp(one) for one in means]
    return tuple(share / sum(shares) for share in shares)


def mean_first(probabilities: Sequence[float], weights: Sequence[float], average: Average) -> float:
    """The same for the probabilities of the first of two; a single one is taken as it is."""
    if len(probabilities) == 1:
        return probabilities[0]
    return mean([(p, 1 - p) for p in probabilities], weights, average)[0]


def spread(annotations: Sequence[Annotation]) -> float:
    """How far annotators are apart: the weighted standard deviation of a candidate's probability.

    With more than two candidates it is the largest of theirs. 0 for a single annotator.
    """
    vectors = [one.probabilities for one in annotations]
    weights = [one.weight for one in annotations]
    middle = mean(vectors, weights, "probability")
    squares = [[(p - centre) ** 2 for p, centre in zip(one, middle, strict=True)] for one in vectors]
    return math.sqrt(max(mean(squares, weights, "probability")))


def split(annotations: Sequence[Annotation]) -> float:
    """The share of the annotators' weight that does not name the candidate which most of it names.

    0 where all agree, 0.5 where two camps are equal. One that names nobody (a tie at its top) agrees with
    none.
    """
    named: dict[int, float] = {}
    for one in annotations:
        best = max(one.probabilities)
        if one.probabilities.count(best) == 1:
            at = one.probabilities.index(best)
            named[at] = named.get(at, 0.0) + one.weight
    return 1 - max(named.values(), default=0.0) / sum(one.weight for one in annotations)
