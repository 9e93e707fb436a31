"""`cai organism`: the bundled model whose world has a known truth."""

import sys
from itertools import islice
from pathlib import Path

import click

from cai.errors import UsageError


@click.group(short_help="The bundled model organism: build it, ask it, check it.")
def organism() -> None:
    """A tiny chat model in a synthetic world whose truth is known by construction (--model organism)."""


@organism.command()
@click.option("-o", "--output", required=True, metavar="FOLDER", help="The model folder to write.")
@click.option("--seed", default=0, show_default=True, type=int)
@click.option("--documents", type=click.IntRange(min=1), help="Documents to train on.  [default: as shipped]")
@click.option("--processes", default=3, show_default=True, type=click.IntRange(min=1))
def build(output: str, seed: int, documents: int | None, processes: int) -> None:
    """Make the organism from a seed: corpus, tokenizer, training. About half an hour on four quiet cores."""
    from cai.organism import build as building
    from cai.progress import reporter

    count = building.DOCUMENTS if documents is None else documents
    with reporter(quiet=False) as report:
        told = report.training("organism")
        building.build(Path(output), seed=seed, count=count, processes=processes, report=told)
        report.trained(Path(output), anew=True)


@organism.command()
@click.option("--split", required=True, type=click.Choice(["train", "dev", "final"]))
@click.option("--kind", required=True, type=click.Choice(["harmful", "borderline", "decoy", "benign"]))
@click.option("-n", "--count", default=20, show_default=True, type=click.IntRange(min=1))
@click.option("--seed", default=0, show_default=True, type=int)
def requests(split: str, kind: str, count: int, seed: int) -> None:
    """Print requests of the organism's world as JSON lines, ready for `cai generate`."""
    import jsonlines

    from cai.organism.requests import prompt_rows

    try:
        rows = prompt_rows(split, {kind: count}, seed)  # type: ignore[arg-type, dict-item]
    except ValueError as error:
        raise UsageError(str(error), where="--count", next="ask for fewer") from error
    with jsonlines.Writer(sys.stdout) as writer:
        writer.write_all(rows)


@organism.command()
@click.argument("model", default="organism", metavar="[MODEL]")
@click.option(
    "--constitution", "names", multiple=True, default=["organism"], show_default=True, metavar="FILE"
)
@click.option("--limit", type=click.IntRange(min=1), help="Only the first requests of the development split.")
@click.option("--temperature", default=0.7, show_default=True, type=click.FloatRange(min=0))
@click.option("--seed", default=0, show_default=True, type=int)
def check(model: str, names: tuple[str, ...], limit: int | None, temperature: float, seed: int) -> None:
    """Measure what MODEL can do by itself: answer, criticise and judge, on requests it was not built from."""
    import jsonlines

    from cai import shipped
    from cai.commands import options
    from cai.constitution import load
    from cai.organism.check import check as measure
    from cai.report.terminal import print_numbers_of

    with jsonlines.open(shipped.find("prompts/organism", "dev")) as reader:
        rows = list(islice(reader, limit))
    constitutions = [load(shipped.find("constitutions", name)) for name in names]
    session = options.engine(model, None, ()).open()
    try:
        numbers = measure(session, rows, constitutions, temperature=temperature, seed=seed)
    finally:
        session.close()
    print_numbers_of(model, numbers)


@organism.command()
@click.argument("model", default="organism", metavar="[MODEL]")
@click.option("--temperature", default=0.5, show_default=True, type=click.FloatRange(min=0))
@click.option("--seed", default=0, show_default=True, type=int)
def chat(model: str, temperature: float, seed: int) -> None:
    """Talk to the organism, or to MODEL trained from it; the oracle says what it makes of each answer."""
    from cai.commands import options
    from cai.commands.chat import answer, typed_lines
    from cai.engines import Request, Sampling
    from cai.organism import oracle
    from cai.records import draw_seed, user
    from cai.terminal import sanitise

    session = options.engine(model, None, ()).open()
    try:
        for turn, line in enumerate(filter(None, typed_lines())):
            want = Sampling(max_tokens=200, temperature=temperature)
            key = draw_seed(seed, "chat", turn)
            reply = answer(session, Request(messages=(user(line),), want=want, seed=key))
            click.echo(sanitise(reply.text or f"({reply.error})"))
            try:
                click.echo(f"  oracle: {oracle.read(line, reply.text)}")
            except oracle.OutsideWorld as reason:
                click.echo(f"  oracle: {reason}")
    finally:
        session.close()
