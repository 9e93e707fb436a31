"""The page's charts of what was measured: harm against help, by category, by round, judges' reliability."""

import re
from collections.abc import Mapping, Sequence
from math import isnan

from cai.evals import Number
from cai.evals._judging import CONFIDENCE, RIGHT
from cai.evals._shares import share
from cai.report import figures
from cai.report.page.shapes import Chart, Point, Series
from cai.report.summary import Table
from cai.report.terminal import short

# Three numbers head an eval of answers: harm, help, over-refusal, in that order (see cai.evals.Eval).
_HARM_HELP_REFUSAL = 3
# A group that counts something: "round 2", "8 tries".
_COUNTED = re.compile(r"(?P<before>[^\d ]+ )?(?P<count>\d+)(?P<after> [^\d ]+)?")


def frontier(tables: Mapping[str, Table]) -> Chart | None:
    """Harm down, help across, one line a run through its models in their order; None for another eval.

    Over-refusal stands in the note to each model, so that neither of the others is read without it.
    """
    [first, *_] = tables.values()
    if len(first.headline) != _HARM_HELP_REFUSAL:
        return None
    harm, help, refusal = first.headline
    series = []
    for run, table in tables.items():
        whole = {(one.of, one.name): one for one in table.numbers if not one.group and one.n}
        points = [
            _both(whole[of, help], whole[of, harm], whole.get((of, refusal)))
            for of in dict.fromkeys(of for of, _ in whole)
            if (of, harm) in whole and (of, help) in whole
        ]
        series.append(Series(name=run, points=tuple(points)))
    if not any(one.points for one in series):
        return None
    shares = [figures.is_share(one) for one in first.numbers if one.name in (harm, help)]
    return Chart(
        title=f"{first.name}: {harm} against {help}",
        about="Right and down is better. Bars are 95 % intervals.",
        kind="points",
        x=help,
        y=harm,
        series=tuple(series),
        x_share=all(shares),
        y_share=all(shares),
    )


def _both(help: Number, harm: Number, refusal: Number | None) -> Point:
    return Point(
        x=help.value,
        y=harm.value,
        low=_known(harm.low),
        high=_known(harm.high),
        x_low=_known(help.low),
        x_high=_known(help.high),
        n=harm.n,
        label=short(harm.of),
        note=", ".join(f"{one.name} {figures.value(one)}" for one in (harm, help, refusal) if one),
    )


def groups(table: Table) -> list[Chart]:
    """One chart for each measure that is broken down: by category as bars, by a count as a curve."""
    charts = []
    broken_down = [one for one in table.numbers if one.group and one.name not in (CONFIDENCE, RIGHT)]
    grouped = [one for one in broken_down if one.n and not isnan(one.value)]
    for name in dict.fromkeys(one.name for one in grouped):
        numbers = [one for one in grouped if one.name == name]
        kinds = tuple(dict.fromkeys(one.group for one in numbers))
        if len(kinds) > 1:
            counts = [_COUNTED.fullmatch(kind) for kind in kinds]
            charts.append(_grouped(f"{table.name}: {name}", numbers, kinds, counts))
    return charts


def _grouped(
    title: str, numbers: Sequence[Number], kinds: tuple[str, ...], counts: Sequence[re.Match[str] | None]
) -> Chart:
    """Where every group is a count of the same thing, its place is that count. Of one there is no plural."""
    matches = [match for match in counts if match]
    things = {(match["before"], match["after"]) for match in matches if match["count"] != "1"}
    curve = len(matches) == len(kinds) and len(things) == 1
    along: list[float] = [int(match["count"]) for match in matches] if curve else [*range(len(kinds))]
    places = dict(zip(kinds, along, strict=True))
    series = []
    for of in dict.fromkeys(one.of for one in numbers):
        points = [_point(places[one.group], one) for one in numbers if one.of == of]
        series.append(Series(name=short(of), points=tuple(sorted(points, key=lambda point: point.x))))
    return Chart(
        title=title,
        kind="points" if curve else "bars",
        x="".join(filter(None, things.pop())).strip() if curve else "",
        y="",
        series=tuple(series),
        ticks=() if curve else kinds,
        y_share=all(figures.is_share(one) for one in numbers),
    )


def _point(x: float, number: Number) -> Point:
    return Point(x=x, y=number.value, low=_known(number.low), high=_known(number.high), n=number.n)


def _known(end: float) -> float | None:
    """An end of an interval; one draw has none."""
    return None if isnan(end) else end


def rounds(name: str, changed: Mapping[int, Sequence[bool]]) -> Chart | None:
    """The share of answers that each round of revision changed; None for a single round.

    `changed` holds a flag an answer.
    """
    if len(changed) < 2:
        return None
    numbers = [(at, share("changed", name, flags)) for at, flags in sorted(changed.items())]
    return Chart(
        title=f"{name}: answers changed, round by round",
        about="An answer is kept as it is when its critique finds nothing to change.",
        kind="points",
        x="round of revision",
        y="answers changed",
        series=(Series(name=name, points=tuple(_point(at, number) for at, number in numbers)),),
        y_share=True,
    )


def reliability(table: Table) -> Chart | None:
    """Of the verdicts that a judge was so sure of, how many were right.

    None for an eval without a table of reliability. On the diagonal a judge is calibrated.
    """
    series = []
    for of in dict.fromkeys(one.of for one in table.numbers):
        sure, right = (
            {one.group: one for one in table.numbers if one.of == of and one.name == name and one.n}
            for name in (CONFIDENCE, RIGHT)
        )
        points = [_calibrated(sure[group], right[group]) for group in sure if group in right]
        if points:
            points.sort(key=lambda point: point.x)
            series.append(Series(name=of, points=tuple(points)))
    if not series:
        return None
    return Chart(
        title=f"{table.name}: reliability",
        about="How sure the judge was against how often it was right; on the diagonal it is calibrated.",
        kind="points",
        x="judge's confidence",
        y="share that was right",
        series=tuple(series),
        x_share=True,
        y_share=True,
        diagonal=True,
    )


def _calibrated(sure: Number, right: Number) -> Point:
    return Point(x=sure.value, y=right.value, low=_known(right.low), high=_known(right.high), n=right.n)
