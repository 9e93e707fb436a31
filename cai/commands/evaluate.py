"""`cai eval`: what models do, or what a file holds, as numbers with intervals."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cai.commands import options
from cai.errors import UsageError

if TYPE_CHECKING:
    from cai.engines import Engine
    from cai.shards import Shard

# What the engine of --by is called among the others, which have the names of files.
ASKED = "--by"


@click.command(name="eval", short_help="Measure models, or a file of rows, with intervals.")
@click.argument("subjects", nargs=-1, required=True, metavar="MODEL...|FILE...")
@click.option("--eval", "name", required=True, metavar="NAME", help="The eval: organism, ...")
@click.option(
    "--prompts",
    multiple=True,
    metavar="FILE",
    help="Have each MODEL answer these requests first; repeatable.",
)
@click.option("--temperature", type=float, help="Sampling temperature of the answers.")
@click.option("--max-tokens", type=int, help="The most tokens an answer may have.")
@click.option("--seed", type=int, help="Seed of the answers.")
@click.option(
    "--set", "pairs", multiple=True, metavar="KEY=VALUE", help="A key of the eval or of its answers."
)
@click.option("--by", metavar="MODEL", help="The model that the eval itself asks: a judge, a detector.")
@click.option("--engine", metavar="NAME", help="How to run all these models: local, ...  [default: local]")
@click.option("--engine-set", multiple=True, metavar="KEY=VALUE", help="A key of the engine's own.")
@click.option("-o", "--output", required=True, metavar="FILE", help="The .jsonl file of verdicts to write.")
@options.with_options([options.LIMIT, options.PART, options.SHARD, *options.RUN_OPTIONS])
def evaluate(
    subjects: tuple[str, ...],
    name: str,
    prompts: tuple[str, ...],
    temperature: float | None,
    max_tokens: int | None,
    seed: int | None,
    pairs: tuple[str, ...],
    by: str | None,
    engine: str | None,
    engine_set: tuple[str, ...],
    output: str,
    limit: int | None,
    part: tuple[float, float] | None,
    shard: "Shard | None",
    redo: bool,
    dry_run: bool,
    strict: bool,
    quiet: bool,
) -> None:
    """Evaluate MODELs on --prompts, or FILEs of rows that are there already.

    Every verdict goes to the output, the numbers beside it (table.jsonl, table.json).

    \b
    cai eval organism runs/x/rl-cai --eval organism \\
        --prompts prompts/organism/dev.jsonl -o runs/x/table.jsonl
    cai eval M runs/x/rl-cai --eval winrate --by M --set constitution=harmless \\
        --prompts prompts/red-team.jsonl -o runs/x/wins.jsonl
    cai eval M runs/x/rl-cai --eval refusals --by M --prompts prompts/red-team.jsonl \\
        --prompts prompts/benign.jsonl --prompts prompts/borderline.jsonl -o runs/x/refusals.jsonl
    cai eval runs/x/comparisons.jsonl --eval judge -o runs/x/judge.jsonl
    """
    from cai.draft import NoEngineError
    from cai.execute import Options, execute
    from cai.recipe import steps_of
    from cai.report.terminal import print_numbers
    from cai.shards import path_of

    path = options.jsonl(output, "--output")
    keys = {"temperature": temperature, "max_tokens": max_tokens, "seed": seed, "limit": limit, "part": part}
    table = {"name": path.stem, "eval": name, **options.settings(pairs, "--set"), **options.given(keys)}
    engines: dict[str, Engine] = {}
    if by is not None:
        engines[ASKED] = options.engine(by, engine, engine_set)
        table["engine"] = ASKED
    if not prompts:
        _check_files(subjects, asked=by is not None, engine=engine is not None or bool(engine_set))
        table["from"] = list(subjects)
    else:
        models = {_short(subject): options.engine(subject, engine, engine_set) for subject in subjects}
        if len(models) < len(subjects):
            raise UsageError("two of the models have the same name", next="name their folders otherwise")
        table |= {"from": list(prompts), "models": list(models)}
        engines |= models
    with options.usage("cai eval"):
        try:
            steps = steps_of(table, engines, path.parent, "cai eval", shard)
        except NoEngineError as error:
            raise UsageError(f"eval '{name}' asks a model itself", next="say which: --by MODEL") from error
    redone = tuple(step.name for step in steps) if redo else ()
    execute(steps, Options(redo=redone, dry_run=dry_run, strict=strict, quiet=quiet))
    if not dry_run and not quiet:
        print_numbers(path_of(path, shard))


def _check_files(subjects: tuple[str, ...], *, asked: bool, engine: bool) -> None:
    """Refuse what is no file of rows, and an engine of which nothing is asked."""
    if engine and not asked:
        needless = "no model is asked"
        raise UsageError(needless, where="--engine", next="give --prompts or --by, or take it out")
    for subject in subjects:
        if Path(subject).suffix != ".jsonl":
            next_step = "give a .jsonl file, or --prompts FILE for a model to answer"
            raise UsageError(f"'{subject}' is no file of rows", where="cai eval", next=next_step)


def _short(model: str) -> str:
    return Path(model).name
