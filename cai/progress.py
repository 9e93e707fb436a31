"""What a run says while it goes: a live line on a terminal, plain lines in a log, a closing line a step."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from cai import manifest, trained
from cai.pipeline import Progress

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

# Seconds between two lines about the same step in a log.
LOG_EVERY = 20.0
# What is said of an optimizer step, as far as it has it.
SEEN = ("loss", "reward", "kl")


class Reporter(Protocol):
    """Told how far a run is. All of it is for people: nothing here decides anything."""

    def rows(self, links: Sequence[Progress]) -> None: ...

    def training(self, name: str) -> "TrainReport": ...

    def made(self, output: Path, *, anew: bool) -> None: ...

    def trained(self, folder: Path, *, anew: bool) -> None: ...


class TrainReport(Protocol):
    """Called after an optimizer step with its number, the number of all, and its metrics."""

    def __call__(self, done: int, total: int, metrics: Mapping[str, float]) -> None: ...


class Quiet:
    """Says nothing."""

    def rows(self, links: Sequence[Progress]) -> None:
        return None

    def training(self, name: str) -> TrainReport:
        return lambda done, total, metrics: None

    def made(self, output: Path, *, anew: bool) -> None:
        return None

    def trained(self, folder: Path, *, anew: bool) -> None:
        return None


class Lines:
    """Writes to stderr, so that stdout stays what a command was asked for."""

    def __init__(self, console: "Console", status: "Status | None") -> None:
        self._console, self._status = console, status
        self._last = time.monotonic()

    def rows(self, links: Sequence[Progress]) -> None:
        self._now(", ".join(_so_far(link) for link in links))

    def training(self, name: str) -> TrainReport:
        def report(done: int, total: int, metrics: Mapping[str, float]) -> None:
            seen = [f"{one} {metrics[one]:.4f}" for one in SEEN if one in metrics]
            self._now(", ".join([f"{name}: step {done} of {total}", *seen]))

        return report

    def made(self, output: Path, *, anew: bool) -> None:
        self._close(f"{output}: {outcome(manifest.read(output) or {}, anew=anew)}")

    def trained(self, folder: Path, *, anew: bool) -> None:
        self._close(f"{folder}: {training_outcome(trained.summary(folder), anew=anew)}")

    def _now(self, text: str) -> None:
        if self._status is not None:
            self._status.update(text)
        elif time.monotonic() - self._last >= LOG_EVERY:
            self._close(text)

    def _close(self, text: str) -> None:
        self._last = time.monotonic()
        self._console.print(text)


@contextmanager
def reporter(quiet: bool) -> Iterator[Reporter]:
    """What fits where stderr goes."""
    if quiet:
        yield Quiet()
        return
    from cai.terminal import console

    stderr = console(stderr=True)
    if not stderr.is_terminal:
        yield Lines(stderr, None)
        return
    with stderr.status("") as status:
        yield Lines(stderr, status)


def _so_far(link: Progress) -> str:
    parts = [f"{link.name}: {count(link.rows, 'row')}"]
    parts += [count(link.rejects, "reject")] if link.rejects else []
    parts += [f"{link.speed:,.0f} tokens/s"] if link.tokens else []
    return ", ".join(parts)


def outcome(found: Mapping[str, Any], *, anew: bool) -> str:
    """A manifest in a line: rows, rejects by reason, seconds."""
    counts = found["counts"]
    parts = [count(counts["rows"], "row")]
    if counts["rejects"]:
        parts.append(f"{count(sum(counts['rejects'].values()), 'reject')} ({reasons(counts['rejects'])})")
    return ", ".join([*parts, _took(found["seconds"], anew)])


def training_outcome(summary: Mapping[str, Any], *, anew: bool) -> str:
    """A training run in a line."""
    parts = [f"trained on {count(summary['rows'], 'row')}"]
    if summary["dropped"]:
        parts.append(f"{sum(summary['dropped'].values()):,} left out ({reasons(summary['dropped'])})")
    losses = f"loss {summary['first_loss']:.4f} -> {summary['last_loss']:.4f}"
    return ", ".join([*parts, count(summary["steps"], "step"), losses, _took(summary["seconds"], anew)])


def count(number: int, noun: str) -> str:
    """1,200 rows"""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def reasons(counts: Mapping[str, int]) -> str:
    """12 empty, 3 truncated"""
    return ", ".join(f"{number:,} {reason}" for reason, number in counts.items())


def _took(seconds: float, anew: bool) -> str:
    return f"{seconds:.1f} s" if anew else "done before"
