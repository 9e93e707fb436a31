"""How far a run is, for whoever looks at it from beside, while it goes or after; and the runs in a folder."""

from collections.abc import Sequence
from pathlib import Path

from cai.claim import holder_of
from cai.errors import CaiError
from cai.report.grid import print_grid
from cai.report.summary import ABSENT, Line, lines_of
from cai.runs import runs_in
from cai.terminal import console, sanitise

STATES = ("complete", "running", "partial", ABSENT)


def print_state(run: Path) -> None:
    """Print each step of a run: its state, rows and rejects by now, and its rate.

    What is being made is as its manifest had it last, some two seconds ago.
    """
    lines = lines_of(run)
    seconds = _seconds(run, lines)
    columns = ("step", "what", "state", "rows", "rejects", "rate", "seconds", "")
    print_grid("", columns, [_cells(line, seconds[line.name]) for line in lines], console())


def _seconds(run: Path, lines: Sequence[Line]) -> dict[str, float]:
    """The seconds that a step's rate is over: its own, but while it runs all of its process.

    Steps that stream into each other share the time by what they asked of the engine, which at their
    beginning says little.
    """
    holders = {line.name: holder_of(run / f"{line.name}.jsonl") for line in lines if line.state == "running"}
    whole: dict[int | None, float] = {}
    for line in lines:
        if line.name in holders:
            holder = holders[line.name]
            whole[holder] = whole.get(holder, 0.0) + line.seconds
    return {line.name: whole[holders[line.name]] if line.name in holders else line.seconds for line in lines}


def _cells(line: Line, seconds: float) -> list[str]:
    cells = [line.name, line.kind, line.state]
    if not line.seconds and line.state != "complete":
        return [*cells, *[""] * 4, line.note]
    rejects = sum(line.rejects.values())
    return [*cells, f"{line.rows:,}", f"{rejects:,}", _rate(line, seconds), f"{line.seconds:.1f}", line.note]


def _rate(line: Line, seconds: float) -> str:
    """Tokens a second of what generates, rows a second of the rest."""
    if not seconds:
        return ""
    if line.tokens.generated:
        return f"{line.tokens.generated / seconds:,.0f} tokens/s"
    return f"{line.rows / seconds:,.1f} rows/s"


def print_runs(folder: Path) -> None:
    """Print each run in `folder` with how many of its steps are complete, running, partial or not begun."""
    if not folder.is_dir():
        raise CaiError(f"there is no folder '{folder}'", next="give the folder that holds your runs")
    out = console()
    found = False
    for run in sorted(path for path in folder.iterdir() if path.is_dir()):
        if (run / "recipe.toml").is_file() or any(run.glob("*.training")) or runs_in(run):
            found = True
            states = [line.state for line in lines_of(run)]
            counts = [f"{states.count(state)} {state}" for state in STATES if state in states]
            out.print(sanitise(f"{run}  {', '.join(counts)}"))
    if not found:
        out.print(f"there is no run in {folder}")
