"""`cai constitution`: look at a constitution before it steers anything, and at what it steered after."""

from pathlib import Path

import click

FRAMES = click.option(
    "--frames",
    default="default",
    metavar="FILE",
    help="The frames of the run's critiques.  [default: the shipped]",
)


@click.group(short_help="Check, show or compare constitutions; see what each principle did.")
def constitution() -> None:
    """Look at constitutions: TOML files of principles, or the names of shipped ones."""


@constitution.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--run", metavar="RUN", help="Also name principles that did nothing in this run.")
@click.option("--strict", is_flag=True, help="Let warnings fail too.")
@FRAMES
def check(files: tuple[str, ...], run: str | None, strict: bool, frames: str) -> None:
    """Say what is wrong with FILEs, and what may weaken them.

    Errors, with exit code 1: keys that nothing reads, wordings that are missing, or that bring a speaker or a
    control token, ids and principles that are there twice. Warnings: wordings that are short, say almost what
    another says (80 % of their words are the same), or hold words of the chat frame.
    """
    from cai import shipped
    from cai.constitution_check import check_file
    from cai.counts import count
    from cai.coverage import coverage
    from cai.frames import ReviewFrames
    from cai.terminal import sanitise

    folder = None if run is None else Path(run)
    counts = None if folder is None else coverage(folder, ReviewFrames.from_toml(frames, "--frames"))
    failed = False
    for file in files:
        path = shipped.find("constitutions", file)
        checked = check_file(path, folder, counts)
        for line in checked.warnings:
            click.echo(sanitise(f"warning: {line}"))
        for line in checked.errors:
            click.secho(sanitise(f"error: {line}"), err=True, fg="red")
        known = count(checked.principles, "principle")
        errors, warnings = count(len(checked.errors), "error"), count(len(checked.warnings), "warning")
        click.echo(f"{path}: {known}, {errors}, {warnings}")
        failed = failed or bool(checked.errors) or (strict and bool(checked.warnings))
    if failed:
        raise click.exceptions.Exit(1)


@constitution.command()
@click.argument("file", metavar="FILE")
def show(file: str) -> None:
    """Print the principles of FILE, those it extends included, and how often each is drawn."""
    from cai import shipped
    from cai.constitution import WORDINGS, load
    from cai.terminal import console, sanitise

    out = console()
    loaded = load(shipped.find("constitutions", file))
    total = sum(principle.weight for principle in loaded.principles)
    out.print(sanitise(f"{loaded.name}: {loaded.about}" if loaded.about else loaded.name), style="bold")
    for principle in loaded.principles:
        tags = f" ({', '.join(principle.tags)})" if principle.tags else ""
        share = principle.weight / total
        out.print(sanitise(f"\n{principle.id}{tags}, drawn {share:.1%} of the time"), style="bold")
        for wording in WORDINGS:
            out.print(f"  {wording + ':':12}{sanitise(getattr(principle, wording))}")


@constitution.command()
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
@click.option("--runs", nargs=2, metavar="RUN RUN", help="Also what the numbers of these two runs say.")
@click.option("--groups", is_flag=True, help="With --runs: also the groups that clearly differ.")
def diff(old: str, new: str, runs: tuple[str, str] | None, groups: bool) -> None:
    """Say what changed from the constitution OLD to NEW: principles, words, weights, tags.

    With two runs, one made under each, also which numbers differ, and by how much.

    \b
    cai constitution diff old.toml new.toml --runs runs/old runs/new
    """
    from cai import shipped
    from cai.constitution import load
    from cai.constitution_diff import changes
    from cai.errors import UsageError
    from cai.report.principles import print_changes, print_effects

    if groups and not runs:
        raise UsageError("'--groups' has no use without --runs", next="leave it out")
    before, after = (load(shipped.find("constitutions", name)) for name in (old, new))
    print_changes(changes(before, after))
    if runs:
        print_effects(Path(runs[0]), Path(runs[1]), groups=groups)


@constitution.command()
@click.argument("run", metavar="RUN")
@FRAMES
def coverage(run: str, frames: str) -> None:
    """Say what each principle did in RUN.

    How often it was drawn, and would be by its weight; in how many of its critiques it found fault; how many
    of its revisions changed the answer; how many of its verdicts named one winner, the same in both orders.
    """
    from cai.coverage import coverage as count
    from cai.frames import ReviewFrames
    from cai.report.principles import print_coverage

    print_coverage(Path(run), count(Path(run), ReviewFrames.from_toml(frames, "--frames")))
