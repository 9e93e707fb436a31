"""A sweep's table for a reader: for each group of combinations what heads the evals' numbers, and a chart.

Harmlessness never stands alone: all that heads an eval is shown side by side.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cai.counts import count
from cai.report.grid import print_grid
from cai.sweep.axes import Group
from cai.sweep.plan import Plan
from cai.sweep.table import Change, Line, Table, headline_of
from cai.terminal import console, sanitise

if TYPE_CHECKING:
    from rich.console import Console

BAR = 40
NOTE = (
    "value: mean over {seeds} [mean +- t s / sqrt(k)]; pooled: Wilson interval of all seeds' rows together; "
    "change: from the first of the group, seed by seed, * where the interval leaves out 0"
)


def print_table(planned: Plan, table: Table) -> None:
    """Print, for each group and each eval, a table of the headline and a chart of what differs in it."""
    out = console()
    for group in planned.groups:
        for step, names in table.headline.items():
            _print_group(group, step, names, table, out)
    out.print(note(planned))


def note(planned: Plan) -> str:
    """What the figures are."""
    return NOTE.format(seeds=count(len(planned.seeds), "seed"))


def _print_group(group: Group, step: str, names: Sequence[str], table: Table, out: "Console") -> None:
    order = [one.name for one in group.combinations]
    lines, changes = headline_of(table, group, step)
    subjects = list(dict.fromkeys(of for _, of, _ in lines))
    rows = []
    for of in subjects:
        shown = _distinct(order, of, names, lines)
        for name in shown:
            cells = [_cell(lines.get((name, of, one)), changes.get((name, of, one))) for one in names]
            label = name if len(shown) > 1 or len(order) == 1 else "all alike"
            rows.append([label, of, *cells])
    print_grid(f"{group.name}: {step}", ["", "of", *names], rows, out, words=2)
    for of in subjects:
        for measure in names:
            bars = [lines[name, of, measure] for name in order if (name, of, measure) in lines]
            if len({line.values for line in bars}) > 1:
                _print_chart(f"{measure} of {of}", bars, out)


def _distinct(
    order: Sequence[str], of: str, names: Sequence[str], lines: dict[tuple[str, str, str], Line]
) -> list[str]:
    """The combinations to show of a subject; one, where all have the same numbers: it hangs on no key."""
    known = [name for name in order if any((name, of, one) in lines for one in names)]
    seen = {tuple(lines[name, of, one].values for one in names if (name, of, one) in lines) for name in known}
    return known if len(seen) > 1 else known[:1]


def _cell(line: Line | None, change: Change | None) -> str:
    if line is None or line.mean is None:
        return "nothing measured"
    value = f"{number(line.mean, line.share)}{interval(line.over_seeds, line.share)}"
    pooled = f"\npooled{interval(line.pooled, line.share)}" if line.pooled else ""
    if change is None:
        return f"{value}{pooled}"
    return f"{value}{pooled}\n{moved(change, line.share)}"


def moved(change: Change, share: bool) -> str:
    """A change in words, starred where it is sure."""
    sign = "*" if change.sure else ""
    return f"change {number(change.mean, share, signed=True)}{interval(change.over_seeds, share)}{sign}"


def number(value: float, share: bool, *, signed: bool = False) -> str:
    """A share in percent, anything else as it is; a `signed` change of a share in points."""
    if signed:
        return f"{100 * value:+z.1f}" if share else f"{value:+z.3f}"
    return f"{100 * value:z.1f}%" if share else f"{value:z.3f}"


def interval(bounds: tuple[float, float] | None, share: bool) -> str:
    """ " [low, high]", nothing where there is none."""
    if bounds is None:
        return ""
    low, high = bounds
    return f" [{100 * low:z.1f}, {100 * high:z.1f}]" if share else f" [{low:z.3f}, {high:z.3f}]"


def _print_chart(title: str, lines: Sequence[Line], out: "Console") -> None:
    """Bars from 0 to the largest value, or to 100 % for shares."""
    values = [line.mean for line in lines if line.mean is not None]
    share = all(line.share for line in lines)
    most = 1.0 if share else max(map(abs, values), default=0.0)
    width = max(len(line.combination) for line in lines)
    out.print(title)
    for line in lines:
        if line.mean is not None:
            bar = "█" * round(BAR * abs(line.mean) / most) if most else ""
            label = sanitise(f"{line.combination:{width}}")
            out.print(f"  {label}  {bar or '▏'} {number(line.mean, share)}")
    out.print("")
