"""How far a run is, for whoever looks at it from beside, while it goes or after; and the runs in a folder."""

from pathlib import Path

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
    columns = ("step", "what", "state", "rows", "rejects", "rate", "seconds", "")
    print_grid("", columns, [_cells(line) for line in lines_of(run)], console())


def _cells(line: Line) -> list[str]:
    if not line.seconds and line.state != "complete":
        return [line.name, line.kind, line.state, "", "", "", "", line.note]
    rejects = f"{sum(line.rejects.values()):,}"
    return [
        line.name,
        line.kind,
        line.state,
        f"{line.rows:,}",
        rejects,
        _rate(line),
        f"{line.seconds:.1f}",
        line.note,
    ]


def _rate(line: Line) -> str:
    """Tokens a second of what generates, rows a second of the rest."""
    if not line.seconds:
        return ""
    if line.tokens.generated:
        return f"{line.tokens.generated / line.seconds:,.0f} tokens/s"
    return f"{line.rows / line.seconds:,.1f} rows/s"


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
