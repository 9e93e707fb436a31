"""What a page is made of: tables, charts and texts, as plain data that the page's scripts draw."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A table's cell; `small` is what stands under its text: an interval and a count.

    `share` (0 to 1) is drawn as a bar behind the text.
    """

    text: str
    small: str = ""
    share: float | None = None


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table. The first `words` columns hold words, the others figures; the first names the row.

    A `folded` one is opened by who wants to read it."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    about: str = ""
    words: int = 1
    folded: bool = False


@dataclass(frozen=True, kw_only=True)
class Point:
    """One measured thing: where it is, its 95 % interval where it has one, over how many rows.

    `label` stands beside it in the chart, `note` in the list below.
    """

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    x_low: float | None = None
    x_high: float | None = None
    n: int | None = None
    label: str = ""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Series:
    name: str
    points: tuple[Point, ...]


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A chart; `ticks` name the places 0, 1, ... of the x axis where it has no numbers.

    "points" are joined in their own order by a thin line, "bars" stand side by side, "line" has no marks.
    `diagonal` draws y = x. An axis of shares runs from 0 to 1 and is marked in percent.
    """

    title: str
    kind: Literal["points", "bars", "line"]
    x: str
    y: str
    series: tuple[Series, ...]
    about: str = ""
    ticks: tuple[str, ...] = ()
    x_share: bool = False
    y_share: bool = False
    diagonal: bool = False


@dataclass(frozen=True, kw_only=True)
class Text:
    """A whole text to read: a recipe, a constitution, what made a step."""

    title: str
    text: str
    about: str = ""


def cells(*texts: str) -> tuple[Cell, ...]:
    """A row of plain cells."""
    return tuple(Cell(text=text) for text in texts)
