"""Which tables, charts and texts stand in which section of a page."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import unified_diff
from itertools import chain

from cai.report.judges import judged
from cai.report.page import charts, curves, readings, sources, tables
from cai.report.page.shapes import Cell, Chart, Grid, Text
from cai.report.page.shown import Row
from cai.report.side_by_side import Shared, SideBySide
from cai.report.summary import Prices, Summary, outputs_of
from cai.runs import Listing

Block = Grid | Chart | Text
JUDGED = (
    "Position bias is the mean of P(the answer shown first) less one half, before both orders are averaged, "
    "which takes it away. Longer answers may win because they are better: with a truth the eval judge tells."
)


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page with a heading; `id` is where links to it lead."""

    id: str
    title: str
    blocks: tuple[Block, ...]


def of_run(summary: Summary, listings: Sequence[Listing], prices: Prices | None) -> list[Section]:
    """The sections of one run; those with nothing in them are left out."""
    both = [(tables.headline(table), charts.frontier({summary.run.name: table})) for table in summary.tables]
    every = [tables.more(table) for table in summary.tables]
    groups = [chart for table in summary.tables for chart in charts.groups(table)]
    found = [
        _section("outcome", "Outcome", [*_explained(chain.from_iterable(both)), *every]),
        _section("groups", "Broken down", groups),
        _section("way", "From prompts to training", [tables.funnel(listings, summary.lines)]),
        _section("judges", "Judges", [*_judges(listings), *map(charts.reliability, summary.tables)]),
        _section("training", "Training", _curves(listings)),
        _section("provenance", "Provenance", _provenance(summary, listings, prices)),
    ]
    return [section for section in found if section.blocks]


def with_rows(parts: Sequence[Section], rows: Sequence[Row]) -> list[Section]:
    """The sections, with what the rows say of the rounds of revision put where the way is shown."""
    drawn = [charts.rounds(step, changed) for step, changed in readings.revised(rows).items()]
    return [
        _section(part.id, part.title, [*part.blocks, *drawn]) if part.id == "way" else part for part in parts
    ]


def of_runs(runs: SideBySide, prices: Prices | None) -> list[Section]:
    """The sections of several runs against each other."""
    found = [
        _section("outcome", "Side by side", _explained(chain.from_iterable(map(_both, runs.shared)))),
        _section("differences", "What differs", [_differences(runs), *_recipes(runs.summaries)]),
    ]
    for name, summary in runs.summaries.items():
        listings = outputs_of(summary.run)
        way = tables.funnel(listings, summary.lines)
        blocks = [
            replace(way, title=f"{name}: {way.title[0].lower()}{way.title[1:]}"),
            tables.costs(summary.lines, prices),
            *_judges(listings),
            sources.constitution(summary.run, listings),
            tables.versions(listings),
        ]
        found.append(_section(f"run-{len(found) - 1}", name, blocks))
    return [section for section in found if section.blocks]


def _section(id: str, title: str, blocks: Iterable[Block | None]) -> Section:
    return Section(id=id, title=title, blocks=tuple(block for block in blocks if block is not None))


def _judges(listings: Sequence[Listing]) -> list[Block | None]:
    found = list(map(tables.headline, judged(listings).values()))
    return [*(replace(grid, about=JUDGED) for grid in found[:1]), *found[1:]]


def _explained(blocks: Iterable[Block | None]) -> list[Block | None]:
    """The blocks, of which the first says what its numbers are."""
    first, *others = list(blocks) or [None]
    return [replace(first, about=tables.INTERVALS) if isinstance(first, Grid) else first, *others]


def _curves(listings: Sequence[Listing]) -> list[Chart]:
    models = [listing for listing in listings if "objective" in listing.manifest["identity"]]
    return [chart for model in models for chart in curves.curves(model.path, model.name)]


def _provenance(summary: Summary, listings: Sequence[Listing], prices: Prices | None) -> list[Block | None]:
    return [
        tables.costs(summary.lines, prices),
        sources.constitution(summary.run, listings),
        sources.recipe(summary.run),
        tables.versions(listings),
        *(sources.settings(listing) for listing in listings),
        tables.files(summary.run, listings),
    ]


def _both(shared: Shared) -> list[Block | None]:
    """One table for all runs, a row for each model of each, and one chart."""
    rows: list[tuple[Cell, ...]] = []
    for run, table in shared.tables.items():
        grid = tables.headline(table)
        rows += [(Cell(text=run), *row) for row in grid.rows]
    columns = ("run", *grid.columns)
    both = replace(grid, title=shared.name, columns=columns, rows=tuple(rows), words=2)
    return [both, charts.frontier(shared.tables)]


def _differences(runs: SideBySide) -> Grid:
    rows = tuple((Cell(text=one.run), Cell(text=one.step), Cell(text=one.what)) for one in runs.differences)
    first = next(iter(runs.summaries))
    return Grid(
        title=f"Steps that differ from {first}",
        columns=("run", "step", "what differs"),
        rows=rows,
        words=3,
        about="" if rows else "Every step was made with the same settings.",
    )


def _recipes(summaries: Mapping[str, Summary]) -> list[Text]:
    """The recipes of the others as changes to the first one's."""
    found = {name: sources.recipe(summary.run) for name, summary in summaries.items()}
    lines = {name: recipe.text.split("\n") for name, recipe in found.items() if recipe is not None}
    if len(lines) < 2:
        return []
    (first, old), *others = lines.items()
    texts = {name: "\n".join(unified_diff(old, new, first, name, lineterm="", n=2)) for name, new in others}
    return [
        Text(title=f"Recipe of {name}, beside {first}", text=text or "The same.")
        for name, text in texts.items()
    ]
