"""`cai train`: one training step."""

from pathlib import Path
from typing import Any

import click

from cai.commands import options
from cai.errors import UsageError
from cai.training.settings import TrainSettings


@click.command(short_help="Train a model on rows, by sft, dpo or another objective.")
@click.argument("objective")
@click.argument("inputs", nargs=-1, required=True, metavar="FILE...")
@click.option("--model", required=True, metavar="MODEL", help="Model folder, hub name, or 'organism'.")
@click.option("-o", "--output", required=True, metavar="FOLDER", help="The model folder to write.")
@click.option(
    "--reward", metavar="REWARD", help="What scores answers (ppo, grpo, rloo): a folder, file.py:function."
)
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="A key of the objective's own.")
@click.option("--weights", metavar="W,W,...", help="How much each row of a file counts, one number a file.")
@click.option("--shares", metavar="S,S,...", help="Or what all rows of a file come to, one number a file.")
@click.option("--redo", is_flag=True, help="Throw away what is there and train anew.")
@click.option("--dry-run", is_flag=True, help="Say what would be done; write nothing.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@options.with_options(options.field_options(TrainSettings))
def train(
    objective: str,
    inputs: tuple[str, ...],
    model: str,
    output: str,
    reward: str | None,
    pairs: tuple[str, ...],
    weights: str | None,
    shares: str | None,
    redo: bool,
    dry_run: bool,
    quiet: bool,
    **settings: Any,
) -> None:
    """Train MODEL on the rows of FILE by an OBJECTIVE.

    sft learns from records; reward, dpo and its family from comparisons; ppo, grpo and rloo from prompts.
    Killed and given again, it goes on from its last checkpoint.

    \b
    cai train sft runs/x/revisions.jsonl --model organism -o runs/x/sl-cai \\
        --epochs 3 --batch-size 16 --lr 5e-4
    """
    from cai.execute import Options, execute
    from cai.steps import TrainStep, check_shares, check_weights, engine_of, input_file, training_keys

    table = options.given({**settings, "reward": reward})
    for key, value in options.settings(pairs, "--set").items():
        if key in table:
            raise UsageError(f"'{key}' is set twice", where="--set", next="set it once")
        table[key] = value
    where = f"cai train {objective}"
    folder = Path(output)
    if folder.suffix == ".jsonl":
        raise UsageError(
            f"'{output}' is no name for a model folder", where="--output", next="leave out .jsonl"
        )
    with options.usage(where):
        mix = {"weights": _numbers(weights, "--weights"), "shares": _numbers(shares, "--shares")}
        each = check_weights(mix["weights"], len(inputs), where)
        whole = check_shares(mix, len(inputs), where)
        trained, loop = training_keys(objective, table, where)
    step = TrainStep(
        name=folder.name,
        kind=objective,
        objective=trained,
        settings=loop,
        model=engine_of({"type": "local", "model": model}, "--model"),
        inputs=tuple(input_file(item, where) for item in inputs),
        weights=each,
        output=folder,
        shares=whole,
    )
    execute((step,), Options(redo=(step.name,) if redo else (), dry_run=dry_run, quiet=quiet))


def _numbers(text: str | None, option: str) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"'{text}' is no list of numbers", where=option, next="write 1.0,0.5") from error
