"""The summary of a run as tables on a terminal; plain text where it goes to a file."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cai import manifest
from cai.evals import Number
from cai.report import figures
from cai.report.grid import print_grid
from cai.report.judges import disputed, judged
from cai.report.side_by_side import side_by_side
from cai.report.summary import (
    ABSENT,
    Line,
    Prices,
    Summary,
    Table,
    Tokens,
    outputs_of,
    summarise,
    table_of,
)
from cai.terminal import console

if TYPE_CHECKING:
    from rich.console import Console

    from cai.report.page import Page


def print_report(run: Path, *, groups: bool = False, prices: Prices | None = None) -> None:
    """Print steps, tokens, rejects, how the judges judged and every eval's numbers, then where to look next.

    With `prices` each step's tokens are priced, and all of them together.
    """
    summary = summarise(run)
    out = console()
    _print_steps(summary.lines, out)
    _print_tokens(summary.lines, prices, out)
    _print_rejects(summary.lines, out)
    judges = judged(outputs_of(run))
    for table in judges.values():
        _print_headline(table, out)
    for table in summary.tables:
        _print_numbers(table, out, groups)
    _print_next(summary, out, disputed(judges))


def print_comparison(runs: Sequence[Path]) -> None:
    """Print what heads the numbers of every eval, run by run, and what was made otherwise in one of them."""
    found = side_by_side(runs)
    out = console()
    for shared in found.shared:
        rows = [
            [run, *row]
            for run, table in shared.tables.items()
            for row in _headline_rows(table, shared.headline)
        ]
        print_grid(f"{shared.name} (95 % intervals)", ["run", "", *shared.headline], rows, out)
    first = next(iter(found.summaries))
    if not found.differences:
        out.print(f"every step was made as in {first}\n")
    for one in found.differences:
        out.print(f"{one.run}, {one.step}: {one.what}")


def print_page(page: "Page") -> None:
    """Print where the page is, and how many rows of how many are in it."""
    rows = f"{page.rows:,} rows" if page.rows >= page.of else f"{page.rows:,} of {page.of:,} rows"
    console().print(f"{page.path}: open it in a browser ({rows})")


def print_outcome(run: Path) -> None:
    """Print what heads every eval's numbers, and where to look next."""
    summary = summarise(run)
    out = console()
    for table in summary.tables:
        _print_headline(table, out)
    _print_next(summary, out)


def print_numbers(verdicts: Path) -> None:
    """Print the numbers of one eval."""
    found = manifest.read(verdicts)
    assert found is not None
    _print_numbers(table_of(verdicts.stem, found), console(), False)


def print_numbers_of(title: str, numbers: Sequence[Number]) -> None:
    """Print numbers that belong to no run."""
    _print_list(title, numbers, console())


def _print_steps(lines: Sequence[Line], out: "Console") -> None:
    rows = []
    for line in lines:
        cells = [f"{line.rows:,}", f"{sum(line.rejects.values()):,}", f"{line.seconds:.1f}"]
        done = line.state != ABSENT
        rows.append([line.name, line.kind, line.state, *(cells if done else [""] * 3), line.note])
    rows.append(["all", *[""] * 4, f"{sum(line.seconds for line in lines):.1f}", ""])
    print_grid("Steps", ["step", "what", "state", "rows", "rejects", "seconds", ""], rows, out)


def _print_tokens(lines: Sequence[Line], prices: Prices | None, out: "Console") -> None:
    """What the steps asked of models; nothing where none did."""
    asked = [line for line in lines if line.tokens != Tokens()]
    if not asked:
        return
    rows = []
    for line in asked:
        rate = (
            f"{line.tokens.generated / line.seconds:,.0f}" if line.seconds and line.tokens.generated else ""
        )
        rows.append([line.name, *_cost(line.tokens, prices), rate])
    rows.append(["all", *_cost(sum((line.tokens for line in asked), Tokens()), prices), ""])
    paid = ["price"] if prices else []
    print_grid("Tokens", ["step", "prompt", "cached", "generated", *paid, "generated a second"], rows, out)


def _cost(tokens: Tokens, prices: Prices | None) -> list[str]:
    cells = [f"{count:,}" for count in (tokens.prompt, tokens.cached, tokens.generated)]
    return [*cells, figures.price(prices.of(tokens))] if prices else cells


def _print_rejects(lines: Sequence[Line], out: "Console") -> None:
    rows = [[line.name, reason, f"{count:,}"] for line in lines for reason, count in line.rejects.items()]
    if rows:
        print_grid("Rejects by reason", ["step", "reason", "rows"], rows, out)


def _print_numbers(table: Table, out: "Console", groups: bool) -> None:
    _print_headline(table, out)
    others = [number for number in table.numbers if number.name not in table.headline or number.group]
    shown = [number for number in others if groups or not number.group]
    if shown:
        _print_list(f"{table.name}: more", shown, out)


def _print_list(title: str, numbers: Sequence[Number], out: "Console") -> None:
    rows = [[short(item.of), item.name, item.group, _value(item), str(item.n)] for item in numbers]
    print_grid(title, ["of", "measure", "group", "value [95 % interval]", "n"], rows, out)


def _print_headline(table: Table, out: "Console") -> None:
    """Whom a number is about down, what was measured across."""
    rows = _headline_rows(table, table.columns)
    print_grid(f"{table.name} (95 % intervals)", ["", *table.columns], rows, out)


def _headline_rows(table: Table, headline: Sequence[str]) -> list[list[str]]:
    whole = [number for number in table.numbers if not number.group]
    cells = {(number.of, number.name): f"{_value(number)}  n={number.n}" for number in whole}
    subjects = dict.fromkeys(number.of for number in whole if number.name in headline)
    return [[short(one), *(cells.get((one, name), "") for name in headline)] for one in subjects]


def short(subject: str) -> str:
    """runs/demo/sl-cai -> sl-cai"""
    return Path(subject).name or subject


def _value(number: Number) -> str:
    return f"{figures.value(number)} {figures.interval(number)}".rstrip()


def _print_next(summary: Summary, out: "Console", doubtful: str | None = None) -> None:
    run = summary.run
    hints: list[tuple[str, Any]] = []
    partial = [line.name for line in summary.lines if line.state != "complete"]
    if partial and (run / "recipe.toml").is_file():
        hints.append((f"cai run {run / 'recipe.toml'}", f"goes on with {', '.join(partial)}"))
    if any(line.rejects for line in summary.lines):
        hints.append((f"less {run}/*.rejects.jsonl", "what could not be used, and why"))
    if doubtful is not None:
        review = f"cai review {run / doubtful}.jsonl --by orders"
        hints.append((review, "decide yourself where the orders disagree (with --name YOU -o FILE)"))
    hints += [
        (f"less {run / table.name}.jsonl", "every verdict behind the numbers") for table in summary.tables
    ]
    hints.append((f"cai show {run} ID", "one row with all that was made for it"))
    trained = [line for line in summary.lines if line.note and line.state == "complete"]
    # A reward model has nothing to say.
    models = [line.name for line in trained if line.kind != "reward"]
    hints += [(f"cai chat {run / models[-1]}", "talk to what was trained")] if models else []
    width = max(len(command) for command, _ in hints)
    out.print("Where to look next")
    for command, what in hints:
        out.print(f"  {command:{width}}  {what}")
