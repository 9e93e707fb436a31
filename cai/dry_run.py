"""What a run would do: each step's state, its first requests, and how much it would ask of the models."""

from collections.abc import Mapping, Sequence

from cai.engines import Options, Request, Score, Want, Worth
from cai.estimate import Estimate, Rehearsal, Rehearsals
from cai.steps import Step, TrainStep
from cai.terminal import console, sanitise

# How many requests of a step are shown.
SHOWN = 2


def show(steps: Sequence[Step], states: Mapping[str, str]) -> None:
    """Print it all. Nothing is written and no model is loaded.

    A step whose input is not there yet is asked about the rows that the scripted engine's answers make.
    """
    out = console()
    rehearsals = Rehearsals()
    left = Estimate()
    for step in steps:
        out.print(f"{step.output}: {step.kind}, {states[step.name]}")
        if isinstance(step, TrainStep):
            rehearsals.train(step)
            out.print(f"  from {', '.join(map(str, step.inputs))}")
            continue
        tried = rehearsals.try_out(step)
        for request in tried.requests[:SHOWN]:
            out.print(rendered(request))
        if tried.requests:
            out.print(f"  estimate: {_words(tried.estimate)}")
            out.print(f"  {_basis(tried)}")
        if states[step.name] != "done":
            left += tried.estimate
    if left.requests:
        out.print(f"left to do, an estimate: {_words(left)}")
    out.print("dry run: nothing was written")


def _words(estimate: Estimate) -> str:
    parts = [f"{_about(estimate.requests)} requests", f"{_about(estimate.prompt)} prompt tokens"]
    if estimate.more:
        parts[-1] += f" and up to {_about(estimate.more)} more for answers to come"
    return f"{', '.join(parts)}, at most {_about(estimate.generated)} generated tokens"


def _about(number: float) -> str:
    """Three digits are more than an estimate has."""
    return f"{float(f'{number:.3g}'):,.0f}"


def _basis(tried: Rehearsal) -> str:
    return f"from {tried.sampled:,} of {_about(tried.estimate.items)} items, by {tried.by}"


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


def _wanted(want: Want) -> str:
    if isinstance(want, Options):
        return f"the probabilities of {', '.join(map(repr, want.options))}"
    if isinstance(want, Score):
        return "the probability of an answer"
    if isinstance(want, Worth):
        return "the score of an answer"
    return f"text, at most {want.max_tokens} tokens, temperature {want.temperature:g}"
