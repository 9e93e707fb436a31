"""`cai review`: a human decides the most doubtful comparisons."""

import sys
from pathlib import Path
from typing import get_args

import click

from cai.commands import options
from cai.errors import UsageError
from cai.review.doubt import By


@click.command(short_help="Decide the most doubtful comparisons yourself, blind.")
@click.argument("run", metavar="RUN|FILE")
@click.option("-o", "--output", required=True, metavar="FILE", help="The .jsonl file to write.")
@click.option("--name", required=True, metavar="NAME", help="Who decides; the annotator is human:NAME.")
@click.option(
    "--by",
    type=click.Choice(get_args(By)),
    default="entropy",
    show_default=True,
    help="What makes one doubtful: even probabilities, orders that disagree, annotators that disagree.",
)
@click.option(
    "--limit", type=click.IntRange(min=1), default=100, show_default=True, help="The most in this session."
)
@click.option("--constitution", metavar="FILE", help="Show the principles' words, not only their ids.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the order of the answers.")
def review(run: str, output: str, name: str, by: By, limit: int, constitution: str | None, seed: int) -> None:
    """Show the most doubtful comparisons of RUN (a folder or a file), and take a key for the better answer.

    Nothing says who wrote an answer or what the judge thought of it, and the order of the answers is drawn.
    Every decision is on the disk at once. The output holds all comparisons of the input; in those that you
    decided, your label stands in the place of the judge's, whose annotation is kept. Given again, the command
    goes on with what is left.

    \b
    cai review runs/x --name ada --constitution harmless -o runs/x/reviewed.jsonl
    cai train dpo runs/x/reviewed.jsonl --model runs/x/sl-cai -o runs/x/rl-cai
    """
    from cai.constitution import Constitution
    from cai.counts import count
    from cai.review.keys import keys
    from cai.review.output import annotator_called, comparisons_in
    from cai.review.session import Sitting, sit
    from cai.terminal import console

    path = options.jsonl(output, "--output")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(
            "a human reviews at a terminal, and this is none", where="cai review", next="run it in one"
        )
    sitting = Sitting(
        source=comparisons_in(Path(run)),
        output=path,
        annotator=annotator_called(name),
        by=by,
        limit=limit,
        constitution=None if constitution is None else Constitution.from_toml(constitution, "--constitution"),
        seed=seed,
    )
    with keys() as key:
        outcome = sit(sitting, console(), key)
    if outcome is None:
        click.echo("nothing was decided, so nothing was written")
        return
    changes = ", ".join(f"{number:,} {change}" for change, number in outcome.changes.items())
    reviewed = f"{sum(outcome.changes.values()):,} reviewed{f' ({changes})' if changes else ''}"
    click.echo(f"{path}: {count(outcome.rows, 'row')}, {reviewed}")
