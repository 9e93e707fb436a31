"""`cai sweep`: a recipe with keys varied, over seeds, tabulated."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cai.commands import options
from cai.errors import UsageError

if TYPE_CHECKING:
    from cai.sweep.axes import Axis
    from cai.sweep.plan import Plan


@click.command(short_help="A recipe with keys varied, over seeds: what each key changes, with intervals.")
@click.argument("recipe", metavar="RECIPE")
@click.option(
    "--set",
    "pairs",
    multiple=True,
    metavar="KEY=A,B,...",
    help="A key and its values: steps.NAME.KEY, engines.NAME.KEY or constitution. An empty value leaves the "
    "key out.",
)
@click.option("--each", is_flag=True, help="Vary one key at a time, the others as in the recipe.")
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Seeds, from the recipe's own upwards.",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes that work side by side, each on as many threads as the recipe says.",
)
@click.option(
    "--store",
    metavar="FOLDER",
    help="Where the steps are made. Sweeps with the same one share what they have in common.  "
    "[default: OUTPUT/steps]",
)
@click.option(
    "-o", "--output", required=True, metavar="FOLDER", help="Write the runs, sweep.json and sweep.html here."
)
@click.option("--limit", type=click.IntRange(min=1), help="Only the first rows of each request set.")
@click.option("--dry-run", is_flag=True, help="Check every combination and list the steps; write nothing.")
@click.option("--strict", is_flag=True, help="Stop at the first bad row instead of rejecting it.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
def sweep(
    recipe: str,
    pairs: tuple[str, ...],
    each: bool,
    seeds: int,
    jobs: int,
    store: str | None,
    output: str,
    limit: int | None,
    dry_run: bool,
    strict: bool,
    quiet: bool,
) -> None:
    """Run RECIPE with every combination of the values, and show what the numbers of its evals come to.

    Every combination is checked before anything runs. A step that several have in common, with all that it
    is made from, is made once. Given again, it goes on where it was broken off; more values or seeds can be
    added then.

    \b
    cai sweep runs/demo/recipe.toml --set steps.revisions.rounds=1,2,4 \\
        --set steps.rl-cai.label=soft,hard --each --seeds 3 -o runs/sweep
    """
    from cai.sweep.page import write_page
    from cai.sweep.plan import Sweep, plan_of
    from cai.sweep.table import tabulate, write
    from cai.sweep.terminal import print_table
    from cai.sweep.work import make

    axes = tuple(map(_axis, pairs))
    _check(axes, each)
    planned = plan_of(
        Sweep(
            recipe=Path(recipe),
            axes=axes,
            each=each,
            seeds=seeds,
            folder=Path(output),
            store=None if store is None else Path(store),
            limit=limit,
        )
    )
    if dry_run:
        _list(planned)
        return
    make(planned, jobs=jobs, strict=strict, quiet=quiet)
    table = tabulate(planned)
    written = write(planned, table)
    page = write_page(planned, table)
    if not quiet:
        print_table(planned, table)
        click.echo(f"{written}: {_counts(planned)}, {len(planned.steps)} of them made")
        click.echo(f"{page}: the same as a page")


def _axis(pair: str) -> "Axis":
    from cai.sweep.axes import Axis

    key, equals, listed = pair.partition("=")
    if not key or not equals:
        raise UsageError(f"'{pair}' is no key=values", where="--set", next="write --set steps.NAME.KEY=A,B")
    values = [options.toml_value(part) if part else None for part in _parts(listed)]
    for value in values:
        if values.count(value) > 1:
            raise UsageError(f"'{key}' has a value twice", where="--set", next="take one out")
    return Axis(key=key, values=tuple(values))


def _parts(listed: str) -> Iterator[str]:
    """What stands between the commas of a list, but for those inside brackets, braces and quotes."""
    part, depth, quoted = "", 0, False
    for sign in listed:
        if sign == "," and not depth and not quoted:
            yield part.strip()
            part = ""
            continue
        quoted ^= sign == '"'
        if not quoted:
            depth += (sign in "[{") - (sign in "]}")
        part += sign
    yield part.strip()


def _check(axes: tuple["Axis", ...], each: bool) -> None:
    keys = [axis.key for axis in axes]
    for key in keys:
        if keys.count(key) > 1:
            raise UsageError(f"'{key}' is set twice", where="--set", next="give all its values in one --set")
    if each and not axes:
        raise UsageError("'--each' varies nothing", next="give a key and its values with --set")


def _list(planned: "Plan") -> None:
    """What would be made, and for how many runs each step."""
    from cai.counts import count
    from cai.ledger import Ledger

    ledger = Ledger()
    states = [ledger.settle(step).state for step in planned.steps]
    users = [sum(step in run.steps for run in planned.runs.values()) for step in planned.steps]
    for step, state, wanted in zip(planned.steps, states, users, strict=True):
        click.echo(f"{step.output}: {step.kind}, {state}, for {count(wanted, 'run')}")
    click.echo(f"{_counts(planned)}, {len(planned.steps)} to make")
    click.echo("dry run: nothing was written")


def _counts(planned: "Plan") -> str:
    from cai.counts import count

    return f"{count(len(planned.runs), 'run')} of {count(planned.wanted, 'step')} in all"
