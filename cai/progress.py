"""What a run says while it goes: a bar a step on a terminal, plain lines in a log, a closing line a step."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from cai import manifest, trained
from cai.counts import count, reasons
from cai.pace import Course, Pace, Standing, duration
from cai.pipeline import OnProgress
from cai.steps import EvalStep, StageStep

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

# Seconds between two lines about the same step in a log.
LOG_EVERY = 20.0
# What is said of an optimizer step, as far as it has it.
SEEN = ("loss", "reward", "kl")


class Reporter(Protocol):
    """Told how far a run is. All of it is for people: nothing here decides anything."""

    def stages(self, steps: Sequence[StageStep | EvalStep]) -> OnProgress: ...

    def training(self, name: str) -> "TrainReport": ...

    def made(self, output: Path, *, anew: bool) -> None: ...

    def trained(self, folder: Path, *, anew: bool, sampled: bool = False) -> None: ...


class TrainReport(Protocol):
    """Called after an optimizer step with its number, the number of all, and its metrics."""

    def __call__(self, done: int, total: int, metrics: Mapping[str, float]) -> None: ...


class Quiet:
    """Says nothing."""

    def stages(self, steps: Sequence[StageStep | EvalStep]) -> OnProgress:
        return lambda links: None

    def training(self, name: str) -> TrainReport:
        return lambda done, total, metrics: None

    def made(self, output: Path, *, anew: bool) -> None:
        return None

    def trained(self, folder: Path, *, anew: bool, sampled: bool = False) -> None:
        return None


class Display(Protocol):
    """Where standings are shown: steps are begun, shown again and again, and closed with a line."""

    def begin(self, names: Sequence[str]) -> None: ...

    def show(self, standings: Sequence[Standing]) -> None: ...

    def close(self, name: str, line: str) -> None: ...


class Told:
    """Tells a display what it is told itself."""

    def __init__(self, display: Display) -> None:
        self._display = display

    def stages(self, steps: Sequence[StageStep | EvalStep]) -> OnProgress:
        course = Course(steps)
        self._display.begin([step.output.stem for step in steps])
        return lambda links: self._display.show(course.standings(links))

    def training(self, name: str) -> TrainReport:
        pace = Pace()
        self._display.begin([name])

        def report(done: int, total: int, metrics: Mapping[str, float]) -> None:
            facts = tuple(f"{one} {metrics[one]:.4f}" for one in SEEN if one in metrics)
            left = pace.left(done, total - done)
            self._display.show([Standing(name=name, done=done, total=total, left=left, facts=facts)])

        return report

    def made(self, output: Path, *, anew: bool) -> None:
        line = f"{output}: {outcome(manifest.read(output) or {}, anew=anew)}"
        self._display.close(output.stem, line)

    def trained(self, folder: Path, *, anew: bool, sampled: bool = False) -> None:
        line = f"{folder}: {training_outcome(trained.summary(folder), anew=anew, sampled=sampled)}"
        self._display.close(folder.name, line)


class Log:
    """Plain lines, not more than one in `LOG_EVERY` seconds besides the closing ones."""

    def __init__(self, console: "Console") -> None:
        self._console = console
        self._last = time.monotonic()

    def begin(self, names: Sequence[str]) -> None:
        return None

    def show(self, standings: Sequence[Standing]) -> None:
        if time.monotonic() - self._last >= LOG_EVERY:
            self.close("", "; ".join(map(in_a_line, standings)))

    def close(self, name: str, line: str) -> None:
        self._last = time.monotonic()
        self._console.print(line)


class Bars:
    """A bar for each step at work. What is shown is drawn by a thread, a few times a second."""

    def __init__(self, progress: "Progress") -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def begin(self, names: Sequence[str]) -> None:
        for name in names:
            if name not in self._tasks:
                self._tasks[name] = self._progress.add_task(name, total=None, of="", facts="", left="")

    def show(self, standings: Sequence[Standing]) -> None:
        for one in standings:
            self._progress.update(
                self._tasks[one.name],
                completed=one.done,
                total=one.total,
                of=_of(one),
                facts=", ".join(one.facts),
                left="" if one.left is None else f"{duration(one.left)} left",
            )

    def close(self, name: str, line: str) -> None:
        if name in self._tasks:
            self._progress.remove_task(self._tasks.pop(name))
        self._progress.console.print(line)


@contextmanager
def reporter(quiet: bool) -> Iterator[Reporter]:
    """What fits where stderr goes; stdout stays what a command was asked for."""
    if quiet:
        yield Quiet()
        return
    from cai.terminal import console

    stderr = console(stderr=True)
    if not stderr.is_terminal:
        yield Told(Log(stderr))
        return
    from rich.progress import BarColumn, Progress, TextColumn

    texts = [TextColumn(f"{{task.{field}}}", markup=False) for field in _FIELDS]
    columns = (texts[0], BarColumn(bar_width=24), *texts[1:])
    with Progress(*columns, console=stderr, transient=True, refresh_per_second=4) as progress:
        yield Told(Bars(progress))


_FIELDS = ("description", "fields[of]", "fields[facts]", "fields[left]")


def in_a_line(standing: Standing) -> str:
    """responses: 412 of 1,250, 2 rejects, 1,204 tokens/s, 3 min left"""
    left = () if standing.left is None else (f"{duration(standing.left)} left",)
    return ", ".join((f"{standing.name}: {_of(standing)}", *standing.facts, *left))


def _of(standing: Standing) -> str:
    whole = "" if standing.total is None else f" of {standing.total:,}"
    return f"{standing.done:,}{whole}"


def outcome(found: Mapping[str, Any], *, anew: bool) -> str:
    """A manifest in a line: rows, rejects by reason, seconds."""
    counts = found["counts"]
    parts = [count(counts["rows"], "row")]
    if counts["rejects"]:
        parts.append(f"{count(sum(counts['rejects'].values()), 'reject')} ({reasons(counts['rejects'])})")
    return ", ".join([*parts, _took(found["seconds"], anew)])


def training_outcome(summary: Mapping[str, Any], *, anew: bool, sampled: bool = False) -> str:
    """A training run in a line; `sampled` when it learned from its own answers to the rows, not from them."""
    learned = f"answers to {count(summary['rows'], 'prompt')}" if sampled else count(summary["rows"], "row")
    parts = [f"trained on {learned}"]
    if summary["dropped"]:
        parts.append(f"{sum(summary['dropped'].values()):,} left out ({reasons(summary['dropped'])})")
    losses = f"loss {summary['first_loss']:.4f} -> {summary['last_loss']:.4f}"
    return ", ".join([*parts, count(summary["steps"], "step"), losses, _took(summary["seconds"], anew)])


def _took(seconds: float, anew: bool) -> str:
    return f"{seconds:.1f} s" if anew else "done before"
