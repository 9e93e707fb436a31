"""`cai run`: every step of a recipe."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cai.commands import options

if TYPE_CHECKING:
    from cai.shards import Shard


@click.command(short_help="Run a recipe: the whole chain, each model loaded once.")
@click.argument("recipe", metavar="RECIPE")
@click.option("--redo", multiple=True, metavar="STEP", help="Make this step anew, and what follows from it.")
@click.option("-o", "--output", metavar="FOLDER", help="Write here and not beside the recipe.")
@click.option("--seed", type=int, help="Another seed than the recipe's; needs -o.")
@click.option("--constitution", metavar="FILE", help="Another constitution than the recipe's; needs -o.")
@click.option(
    "--limit", type=click.IntRange(min=1), help="Only the first rows of each request set; needs -o."
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Show what would be done, first requests and estimated tokens; write nothing.",
)
@click.option("--strict", is_flag=True, help="Stop at the first bad row instead of rejecting it.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@options.with_options([options.SHARD])
def run(
    recipe: str,
    redo: tuple[str, ...],
    output: str | None,
    seed: int | None,
    constitution: str | None,
    limit: int | None,
    dry_run: bool,
    strict: bool,
    quiet: bool,
    shard: "Shard | None",
) -> None:
    """Run all steps of a RECIPE (a TOML file, or the folder it lies in).

    What is done already is left as it is, what was broken off goes on where it stopped.
    """
    from cai.errors import UsageError
    from cai.execute import Options, check_rows, execute
    from cai.recipe import load
    from cai.report.terminal import print_outcome

    changes = options.given({"seed": seed, "constitution": constitution, "limit": limit})
    if changes and output is None:
        raise UsageError(f"'--{next(iter(changes))}' makes another run of it", next="give its folder with -o")
    folder = None if output is None else Path(output)
    loaded = load(Path(recipe), folder=folder, changes=changes, shard=shard)
    execute(loaded.steps, Options(redo=redo, dry_run=dry_run, strict=strict, quiet=quiet))
    if not (dry_run or quiet):
        folder = loaded.steps[0].output.parent
        print_outcome(folder)
        click.echo(f"cai report {folder} sums up every step")
    if not dry_run:
        check_rows(loaded.steps)
