"""What a run would do: each step's state, and the first requests, with the scripted engine's answers."""

from collections.abc import Generator, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from cai.engines import Options, Reply, Request, Sampling, Score
from cai.records import Reject
from cai.rows import items_for
from cai.steps import EvalStep, StageStep, Step, TrainStep
from cai.terminal import console, sanitise

# How many requests of a step are shown.
SHOWN = 2


def show(steps: Sequence[Step], states: Mapping[str, str]) -> None:
    """Print it all. Nothing is written and no model is loaded.

    A step whose input is not there yet gets the rows that the scripted engine's answers make.
    """
    out = console()
    rows: dict[Path, list[Any]] = {}
    for step in steps:
        out.print(f"{step.output}: {step.kind}, {states[step.name]}")
        if isinstance(step, TrainStep):
            out.print(f"  from {', '.join(map(str, step.inputs))}")
            continue
        requests, rows[step.output] = rehearse(step, rows)
        for request in requests[:SHOWN]:
            out.print(rendered(request))
    out.print("dry run: nothing was written")


def rehearse(step: StageStep | EvalStep, rows: Mapping[Path, list[Any]]) -> tuple[list[Request], list[Any]]:
    """The requests of the step's first item, and the rows that come of it."""
    plugin = step.stage if isinstance(step, StageStep) else step.eval
    if all(path.is_file() for path in step.inputs):
        values: Iterable[Any] = (
            item.value for item in items_for(plugin, step.inputs, limit=step.limit, part=step.part)
        )
    else:
        known = [row for path in step.inputs for row in rows.get(path, [])]
        values = [known] if getattr(plugin, "groups", False) and known else known
    first = next(islice((value for value in values if not isinstance(value, Reject)), 1), None)
    return ([], []) if first is None else _drive(plugin.work(first))


def _drive(
    work: "Generator[list[Request], Sequence[Reply], list[Any]] | list[Any]",
) -> tuple[list[Request], list[Any]]:
    from cai.engines.scripted import Scripted

    if isinstance(work, list):
        return [], _rows(work)
    session = Scripted().open()
    asked: list[Request] = []
    replies: list[Reply] | None = None
    while True:
        try:
            requests = next(work) if replies is None else work.send(replies)
        except StopIteration as stop:
            return asked, _rows(stop.value)
        asked += requests
        answered: dict[int, Reply] = {}
        for ticket, request in enumerate(requests):
            session.submit(ticket, request)
        while len(answered) < len(requests):
            answered |= dict(session.poll())
        replies = [answered[ticket] for ticket in range(len(requests))]


def _rows(rows: Iterable[Any]) -> list[Any]:
    return [row for row in rows if not isinstance(row, Reject)]


def rendered(request: Request) -> str:
    """A request for a reader: its messages, and what is wanted."""
    lines = []
    for message in request.messages:
        text = sanitise(message["content"]).replace("\n", "\n    ")
        lines.append(f"  {message['role']}:\n    {text}")
    if request.prefix:
        lines.append(f"  assistant begins: {sanitise(request.prefix)!r}")
    lines.append(f"  -> {_wanted(request.want)}")
    return "\n".join(lines)


def _wanted(want: Sampling | Options | Score) -> str:
    if isinstance(want, Options):
        return f"the probabilities of {', '.join(map(repr, want.options))}"
    if isinstance(want, Score):
        return "the probability of an answer"
    return f"text, at most {want.max_tokens} tokens, temperature {want.temperature:g}"
