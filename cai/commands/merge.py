"""`cai merge`: the shards of a run, made on several machines, into one."""

from pathlib import Path

import click


@click.command(short_help="Put the shards of an output, made with --shard, together.")
@click.argument("output", metavar="OUT")
@click.argument("shards", nargs=-1, metavar="[SHARD]...")
@click.option("--redo", is_flag=True, help="Throw away what is there and merge anew.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
def merge(output: str, shards: tuple[str, ...], redo: bool, quiet: bool) -> None:
    """Merge SHARDs (default: those beside it) into OUT, a .jsonl file; or whatever is sharded in a folder.

    OUT is, byte for byte, what one run without --shard would have written, so whatever comes next goes on
    from it: `cai run` takes the step as done. An eval's numbers are added by its own command without --shard.

    \b
    cai merge runs/x/critiques.jsonl
    cai merge runs/x
    """
    from cai import manifest
    from cai.commands.options import jsonl
    from cai.errors import UsageError
    from cai.merge import merge as put_together
    from cai.progress import outcome
    from cai.shards import shards_in, whole_of

    folder = Path(output)
    if folder.is_dir() and shards:
        raise UsageError("a folder takes no shards beside it", where=output, next="give a .jsonl file")
    outputs = sorted({whole_of(path) for path in shards_in(folder)}) if folder.is_dir() else []
    if folder.is_dir() and not outputs:
        raise UsageError("there is no shard in this folder", where=output, next="make them with --shard")
    if not folder.exists() and not folder.suffix:
        raise UsageError(
            "there is no such folder", where=output, next="give a run's folder, or a .jsonl file"
        )
    for path in outputs or [jsonl(output, "OUT")]:
        anew = put_together(path, [Path(shard) for shard in shards], redo=redo)
        if not quiet:
            click.echo(f"{path}: {outcome(manifest.read(path) or {}, anew=anew)}")
