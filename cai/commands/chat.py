"""`cai chat`: talk to a model."""

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from cai.commands import options

if TYPE_CHECKING:
    from cai.engines import Reply, Request, Sampling, Session
    from cai.records import Message


@click.command(short_help="Talk to a model.")
@click.argument("model", metavar="MODEL")
@click.option("--engine", metavar="NAME", help="How to run it: local, ...  [default: local]")
@click.option("--engine-set", multiple=True, metavar="KEY=VALUE", help="A key of the engine's own.")
@click.option("--system", default="", metavar="TEXT", help="A system message.")
@click.option("--temperature", default=0.7, show_default=True, type=click.FloatRange(min=0))
@click.option("--max-tokens", default=512, show_default=True, type=click.IntRange(min=1))
@click.option("--seed", default=0, show_default=True, type=int)
def chat(model: str, engine: str | None, engine_set: tuple[str, ...], system: str, **sampling: Any) -> None:
    """Talk to MODEL, a line a turn. An empty line begins a new conversation, the end of input ends it."""
    from cai.engines import Sampling

    seed = sampling.pop("seed")
    session = options.engine(model, engine, engine_set).open()
    try:
        converse(session, Sampling(**sampling), system, seed)
    finally:
        session.close()


def converse(session: "Session", want: "Sampling", system: str, seed: int) -> None:
    """Read requests from stdin and print the answers."""
    from cai.engines import Request
    from cai.records import assistant, draw_seed, user
    from cai.terminal import sanitise

    opening: list[Message] = [{"role": "system", "content": system}] if system else []
    messages = list(opening)
    for turn, line in enumerate(typed_lines()):
        if not line:
            messages = list(opening)
            click.echo("(a new conversation)")
            continue
        messages.append(user(line))
        request = Request(messages=tuple(messages), want=want, seed=draw_seed(seed, "chat", turn))
        reply = answer(session, request)
        if reply.error:
            click.echo(f"({sanitise(reply.error)}; an empty line begins anew)")
            messages.pop()
            continue
        messages.append(assistant(reply.text))
        click.echo(sanitise(reply.text) + (" [cut off]" if reply.finish == "length" else ""))


def answer(session: "Session", request: "Request") -> "Reply":
    """The reply to one request."""
    session.submit(0, request)
    while True:
        for _, reply in session.poll():
            return reply


def typed_lines() -> Iterator[str]:
    """What is typed, or piped in, a line at a time."""
    while True:
        try:
            line = input("> " if sys.stdin.isatty() else "").strip()
        except EOFError:
            return
        except KeyboardInterrupt:
            # It ends a talk like the end of input: there is nothing that the same command would go on with.
            click.echo()
            return
        yield line
