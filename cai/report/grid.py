"""A table on a terminal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cai.terminal import sanitise

if TYPE_CHECKING:
    from rich.console import Console


def print_grid(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], out: "Console", words: int = 1
) -> None:
    """Print a table whose first `words` columns read to the left and whose others to the right."""
    from rich import box
    from rich.table import Table

    grid = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for at, column in enumerate(columns):
        grid.add_column(column, justify="left" if at < words else "right", overflow="fold")
    for row in rows:
        grid.add_row(*map(sanitise, row))
    out.print(grid)
