"""A sweep as one HTML page: for each group of combinations the tables and charts of its evals."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cai.report.page.sections import Section
from cai.report.page.shapes import Cell, Chart, Grid, Point, Series
from cai.report.page.write import write_sections
from cai.sweep.axes import Group
from cai.sweep.plan import Plan
from cai.sweep.table import Change, Line, Table, headline_of
from cai.sweep.terminal import interval, moved, note, number

PAGE = "sweep.html"


def write_page(planned: Plan, table: Table) -> Path:
    """Write sweep.html beside sweep.json; returns its path."""
    path = planned.sweep.folder / PAGE
    parts = [
        Section(id=f"group-{at}", title=group.name, blocks=tuple(_blocks(group, planned, table)))
        for at, group in enumerate(planned.groups, start=1)
    ]
    write_sections(path, f"{planned.sweep.recipe} swept", [part for part in parts if part.blocks])
    return path


def _blocks(group: Group, planned: Plan, table: Table) -> Iterator[Grid | Chart]:
    about = note(planned)
    for step, names in table.headline.items():
        lines, changes = headline_of(table, group, step)
        subjects = list(dict.fromkeys(of for _, of, _ in lines))
        rows = [
            (
                Cell(text=one.name),
                Cell(text=of),
                *(
                    _cell(lines.get((one.name, of, name)), changes.get((one.name, of, name)))
                    for name in names
                ),
            )
            for of in subjects
            for one in group.combinations
        ]
        yield Grid(title=step, columns=("setting", "of", *names), rows=tuple(rows), about=about, words=2)
        for name in names:
            chart = _chart(group, step, name, subjects, lines)
            if chart is not None:
                yield chart


def _cell(line: Line | None, change: Change | None) -> Cell:
    if line is None or line.mean is None:
        return Cell(text="")
    small = [f"seeds{interval(line.over_seeds, line.share)}"] if line.over_seeds else []
    small += [f"pooled{interval(line.pooled, line.share)}"] if line.pooled else []
    small += [moved(change, line.share)] if change else []
    return Cell(
        text=number(line.mean, line.share), small="; ".join(small), share=line.mean if line.share else None
    )


def _chart(
    group: Group, step: str, name: str, subjects: Sequence[str], lines: Mapping[tuple[str, str, str], Line]
) -> Chart | None:
    """A subject's line along the values of a key that takes numbers, else bars over the combinations."""
    along = _numeric(group)
    series: dict[str, list[Point]] = {}
    for of in subjects:
        for at, one in enumerate(group.combinations):
            line = lines.get((one.name, of, name))
            if line is None or line.mean is None:
                continue
            others = [label for key, label in one.labels.items() if along not in (None, key)]
            x = at if along is None else one.settings[along]
            series.setdefault(", ".join([of, *others]), []).append(_point(x, line))
    if all(len(points) < 2 for points in series.values()):
        return None
    return Chart(
        title=f"{step}: {name}",
        about="Bars: the pooled interval of all seeds where there is one, else that over the seeds.",
        kind="bars" if along is None else "points",
        x=along or "",
        y=name,
        series=tuple(
            Series(name=of, points=tuple(sorted(points, key=lambda point: point.x)))
            for of, points in series.items()
        ),
        ticks=tuple(one.name for one in group.combinations) if along is None else (),
        y_share=all(line.share for line in lines.values() if line.name == name),
    )


def _numeric(group: Group) -> str | None:
    """The last of the group's keys that takes numbers alone."""
    numeric = [
        key
        for key in group.keys
        if all(type(one.settings[key]) in (int, float) for one in group.combinations)
    ]
    return numeric[-1] if numeric else None


def _point(x: float, line: Line) -> Point:
    assert line.mean is not None
    low, high = line.pooled or line.over_seeds or (None, None)
    return Point(x=x, y=line.mean, low=low, high=high, n=sum(line.n))
