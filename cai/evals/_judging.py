"""How good a judge is: numbers out of the rows of `cai.evals._pairs`, of one judge at a time.

Rows of one prompt are no independent draws, and every interval is over prompts.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from cai.evals import Number, VerdictRow
from cai.evals._intervals import added
from cai.evals._pairs import UNKNOWN
from cai.evals._reliability import Judged, bins, calibration_error, won
from cai.evals._shares import by, mean, prompts_of, share

ONE_ORDER = "judge right, one order"
BOTH_ORDERS = "judge right, both orders"
ERROR = "calibration error (ECE)"
BRIER = "Brier score"
DISAGREE = "orders disagree"
BIAS_BEFORE = "position bias before"
BIAS_AFTER = "position bias after"
CONFIDENCE = "reliability: confidence"
RIGHT = "reliability: right"

Holder = Callable[[VerdictRow], str]


def against_gold(of: str, rows: Sequence[VerdictRow]) -> Iterator[Number]:
    """Accuracy and calibration where one of two answers is truly better, and how many such pairs there are.

    An exact half names nobody and is not right. The reliability table is two numbers a bin, under the bin's
    bounds as their group: the mean confidence, and the share that is right.
    """
    decided = _decided(rows)
    yield from _right(of, decided)
    yield from _calibration(of, decided)
    yield share(
        "pairs of equal truth", of, [row["better"] == "tie" for row in rows], prompts=prompts_of(rows)
    )
    yield share(
        "pairs without a truth", of, [row["better"] == UNKNOWN for row in rows], prompts=prompts_of(rows)
    )
    yield from right_by("principle", of, rows)


def right_by(key: str, of: str, rows: Sequence[VerdictRow]) -> Iterator[Number]:
    """The accuracy by what stands under a key; nothing where that is the same everywhere."""
    for group, some in _groups(key, _decided(rows)):
        yield from _right(of, some, group)


def _right(of: str, decided: Sequence[VerdictRow], group: str = "") -> Iterator[Number]:
    read = [row for row in decided if "p_one_first" in row]
    if read or not group:
        hits = [_to_better(row, key) > 0.5 for key in ("p_one_first", "p_one_second") for row in read]
        # Both readings of a pair stand under its prompt.
        yield share(ONE_ORDER, of, hits, group, prompts_of(read) * 2)
    averaged = [_to_better(row, "p_one") > 0.5 for row in decided]
    yield share(BOTH_ORDERS, of, averaged, group, prompts_of(decided))


def _decided(rows: Sequence[VerdictRow]) -> list[VerdictRow]:
    return [row for row in rows if row["better"] in ("one", "other")]


def _calibration(of: str, decided: Sequence[VerdictRow]) -> Iterator[Number]:
    judged = verdicts_of(decided)
    if not judged:
        return
    value, (low, high) = calibration_error(judged)
    yield Number(name=ERROR, of=of, value=value, low=low, high=high, n=len(judged), unit="share")
    brier = mean(BRIER, of, [(1 - one.p) ** 2 for one in judged], prompts=prompts_of(decided))
    yield replace(brier, low=max(0.0, brier.low))
    for at, place in enumerate(bins(judged), start=1):
        prompts = [one.prompt for one in place.judged]
        # Numbered, for the bounds of two bins of a judge that is always sure look alike.
        group = f"{at:02}: {place.low:.3f} to {place.high:.3f}"
        yield mean(CONFIDENCE, of, [one.confidence for one in place.judged], group, prompts, "share")
        yield share(RIGHT, of, [one.right for one in place.judged], group, prompts)


def verdicts_of(rows: Sequence[VerdictRow]) -> list[Judged]:
    """The verdicts of the rows in which one of two answers is truly better."""
    return [Judged(prompt=str(row["prompt"]), p=_to_better(row, "p_one")) for row in _decided(rows)]


def order_effects(of: str, rows: Sequence[VerdictRow]) -> Iterator[Number]:
    """What showing an answer first does: P(the first) - 0.5 before and after both orders are averaged, how
    often the two orders name different winners, and how often it is then the first each time.

    Nothing where no pair was shown in both orders.
    """
    read = [row for row in rows if "p_one_first" in row]
    if not read:
        return
    prompts = prompts_of(read)
    biases = [(float(row["p_one_first"]) - float(row["p_one_second"])) / 2 for row in read]
    yield mean(BIAS_BEFORE, of, biases, prompts=prompts)
    # Each pair's averaged verdict counts once with the one answer first and once with the other.
    yield mean(BIAS_AFTER, of, [0.0 for _ in read], prompts=prompts)
    yield share(DISAGREE, of, [_disagree(row) for row in read], prompts=prompts)
    split = [row for row in read if _disagree(row)]
    firsts = [float(row["p_one_first"]) > float(row["p_one_second"]) for row in split]
    yield share("first wins, orders disagree", of, firsts, prompts=prompts_of(split))
    for principle, some in _groups("principle", read):
        yield share(DISAGREE, of, [_disagree(row) for row in some], principle, prompts_of(some))


def favours(of: str, rows: Sequence[VerdictRow]) -> Iterator[Number]:
    """Whether the longer answer wins, and the one that the judge's own model wrote.

    "bias" balances the truth: half the rate at which such an answer wins where it is truly better, and half
    that where it is truly worse, less 0.5. A judge that errs either way alike has none, however often the
    longer is better. Without a truth there is only how often it wins.
    """
    yield from _favoured(of, rows, "longer answer", _longer)
    yield from _favoured(of, rows, "own answer", _own)


def _favoured(of: str, rows: Sequence[VerdictRow], what: str, holder: Holder) -> Iterator[Number]:
    held = [row for row in rows if holder(row)]
    if not held:
        return
    yield share(f"{what} wins", of, [_won(row, holder) for row in held], prompts=prompts_of(held))
    found: dict[str, Number] = {}
    for truth in ("better", "worse", "equal"):
        some = [row for row in held if _truth(row, holder) == truth]
        hits = [_won(row, holder) for row in some]
        found[truth] = share(f"{what} wins", of, hits, f"truly {truth}", prompts_of(some))
    yield from (number for number in found.values() if number.n)
    better, worse = found["better"], found["worse"]
    if better.n and worse.n:
        halves = [(number.value / 2, (number.low / 2, number.high / 2)) for number in (better, worse)]
        low, high = added(*halves, (-0.5, (-0.5, -0.5)))
        value, n = (better.value + worse.value - 1) / 2, better.n + worse.n
        yield Number(name=f"{what} bias", of=of, value=value, low=low, high=high, n=n, unit="plain")


def _truth(row: VerdictRow, holder: Holder) -> str:
    """What the holder of an attribute truly is beside the other."""
    if row["better"] in (UNKNOWN, "tie"):
        return "equal" if row["better"] == "tie" else UNKNOWN
    return "better" if row["better"] == holder(row) else "worse"


def _longer(row: VerdictRow) -> str:
    one, other = int(row["length_one"]), int(row["length_other"])
    return "one" if one > other else "other" if one < other else ""


def _own(row: VerdictRow) -> str:
    one, other = bool(row.get("own_one")), bool(row.get("own_other"))
    return "" if one == other else "one" if one else "other"


def _won(row: VerdictRow, holder: Holder) -> float:
    p = float(row["p_one"])
    return won(p if holder(row) == "one" else 1 - p)


def _to_better(row: VerdictRow, key: str) -> float:
    return float(row[key]) if row["better"] == "one" else 1 - float(row[key])


def _disagree(row: VerdictRow) -> bool:
    return (float(row["p_one_first"]) - 0.5) * (float(row["p_one_second"]) - 0.5) <= 0


def _groups(key: str, rows: Sequence[VerdictRow]) -> list[tuple[str, list[VerdictRow]]]:
    """The rows by what is under a key, if that is not the same in all."""
    found = sorted(by(key, rows).items())
    return found if len(found) > 1 else []
