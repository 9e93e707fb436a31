"""One command for each stage, its options made from the stage's own fields."""

import inspect
from typing import Any

import click

from cai.commands import options
from cai.commands.about import plugin_about
from cai.config import build
from cai.plugins import find
from cai.stages import asks
from cai.steps import StageStep


def stage_command(name: str) -> click.Command:
    """The command of the stage called `name`."""
    cls = find("stages", name)
    engine = list(options.ENGINE_OPTIONS) if asks(cls) else []

    def body(inputs: tuple[str, ...], **values: Any) -> None:
        _run(name, cls, inputs, values)

    return click.Command(
        name,
        callback=body,
        help=f"{plugin_about('stages', name)}.\n\n{inspect.getdoc(cls)}",
        params=[
            click.Argument(["inputs"], nargs=-1, required=True, metavar="INPUT..."),
            *engine,
            *options.field_options(cls),
            options.OUTPUT,
            options.LIMIT,
            options.PART,
            options.SHARD,
            *options.RUN_OPTIONS,
        ],
    )


def _run(name: str, cls: type[Any], inputs: tuple[str, ...], values: dict[str, Any]) -> None:
    from cai.draft import part_of
    from cai.execute import Options, check_rows, execute
    from cai.shards import path_of
    from cai.steps import check_limit, input_file

    where = f"cai {name}"
    shard = values.pop("shard")
    output = path_of(options.jsonl(values.pop("output"), "--output"), shard)
    files = tuple(input_file(item, where, shard) for item in inputs)
    limit = values.pop("limit")
    with options.usage("--limit"):
        check_limit(limit, files, shard, "--limit")
    with options.usage("--part"):
        part = part_of(values.pop("part"), "--part")
    how = Options(
        redo=(output.stem,) if values.pop("redo") else (),
        dry_run=values.pop("dry_run"),
        strict=values.pop("strict"),
        quiet=values.pop("quiet"),
    )
    engine = None
    if asks(cls):
        engine = options.engine(values.pop("model"), values.pop("engine"), values.pop("engine_set"))
    with options.usage(where):
        stage = build(cls, options.given(values), where)
    step = StageStep(
        name=output.stem,
        kind=name,
        stage=stage,
        engine=engine,
        inputs=files,
        output=output,
        limit=limit,
        part=part,
        shard=shard,
    )
    execute((step,), how)
    if not how.dry_run:
        check_rows((step,))
