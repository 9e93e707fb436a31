"""`cai show`, `cai runs`: how far runs are, and what they hold."""

from pathlib import Path

import click


@click.command(short_help="How far a run is; or one row, with all that was made for it.")
@click.argument("run", metavar="RUN")
@click.argument("id", metavar="[ID]", required=False)
def show(run: str, id: str | None) -> None:
    """Show how far each step of RUN is, also while it runs: its state, rows, rejects, rate.

    With an ID, show every row of RUN (a folder or a .jsonl file) with an id, or a prompt's id, that begins
    with it.
    """
    if id is None:
        from cai.report.state import print_state

        print_state(Path(run))
        return
    from cai.show import print_rows

    print_rows(Path(run), id)


@click.command(short_help="The runs in a folder, and how far they are.")
@click.argument("folder", metavar="[FOLDER]", default="runs")
def runs(folder: str) -> None:
    """List the runs in FOLDER (default: runs), those that are running included."""
    from cai.report.state import print_runs

    print_runs(Path(folder))
