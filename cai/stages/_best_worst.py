"""Of all answers to a prompt that were compared, the best and the worst: for `select`."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import isclose
from statistics import fmean

from cai.records import Annotation, Comparison, digest
from cai.stages._pairing import luce


@dataclass(frozen=True, kw_only=True)
class NoExtremes:
    """Why a prompt's answers have no best and worst that were compared."""

    reason: str
    detail: str


def best_worst(rows: Sequence[Comparison]) -> tuple[Comparison, Comparison] | NoExtremes:
    """The comparison of a prompt's best answer with its worst, and the row that it is taken from.

    An answer's score is the mean probability with which it beats each answer that it met. Of a comparison of
    K answers, i beats j with p_i / (p_i + p_j), as in Luce's choice rule (1959), which is also how its two
    sides are cut out. The label is the verdict on the two themselves, never one made of scores.
    """
    scores = _scores(rows)
    order = sorted(scores, key=lambda text: -scores[text])
    if len(order) < 2:
        return NoExtremes(reason="identical", detail="all answers say the same")
    best, worst = order[0], order[-1]
    for which, one, other in (("best", best, order[1]), ("worst", worst, order[-2])):
        if isclose(scores[one], scores[other], abs_tol=1e-12):
            return NoExtremes(reason="tie", detail=f"two answers are the {which}, at {scores[one]:.3f}")
    for row in rows:
        texts = [_text(row, at) for at in range(len(row.candidates))]
        if best in texts and worst in texts:
            i, j = texts.index(best), texts.index(worst)
            p, _ = luce(row.probabilities, i, j)
            if p > 0.5:
                return (row if len(texts) == 2 else _cut(row, min(i, j), max(i, j))), row
            detail = f"P(best) is {p:.3f} where the two meet"
            return NoExtremes(reason="verdict against scores", detail=detail)
    return NoExtremes(reason="never met", detail="the best and the worst answer were not compared")


def _scores(rows: Sequence[Comparison]) -> Mapping[str, float]:
    """Answer -> mean over the answers it met of the mean probability to beat that one."""
    met: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        for i, j in combinations(range(len(row.candidates)), 2):
            one, other = _text(row, i), _text(row, j)
            if one != other:
                p, q = luce(row.probabilities, i, j)
                met[one][other].append(p)
                met[other][one].append(q)
    return {text: fmean(fmean(ps) for ps in others.values()) for text, others in met.items()}


def _text(row: Comparison, at: int) -> str:
    return row.candidates[at].text.strip()


def _cut(row: Comparison, i: int, j: int) -> Comparison:
    """The comparison of two of a row's candidates, as far as the row tells of it."""
    return replace(
        row,
        id=digest("cut", row.id, i, j),
        candidates=(row.candidates[i], row.candidates[j]),
        annotations=tuple(_cut_annotation(one, i, j) for one in row.annotations),
        probabilities=luce(row.probabilities, i, j),
    )


def _cut_annotation(annotation: Annotation, i: int, j: int) -> Annotation:
    places = {i: 0, j: 1}
    orders = tuple(luce(order, i, j) for order in annotation.orders)
    probabilities = luce(annotation.probabilities, i, j)
    return replace(
        annotation,
        probabilities=probabilities,
        orders=orders,
        shown=tuple(tuple(places[at] for at in shown if at in places) for shown in annotation.shown),
        agree=len({one > other for one, other in orders or (probabilities,)}) == 1,
    )
