"""The errors a user meets. Anything else is a bug of ours and shows its traceback."""

from collections.abc import Iterable
from difflib import get_close_matches


class CaiError(Exception):
    """Something the user can put right.

    `what` says what is wrong, `where` the file, line or key, `next` what to do about it. The message reads
    `where: what; next`, on one line.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str | None = None, next: str | None = None) -> None:
        self.what, self.where, self.next = what, where, next
        super().__init__(what)

    def __str__(self) -> str:
        head = f"{self.where}: " if self.where else ""
        tail = f"; {self.next}" if self.next else ""
        return f"{head}{self.what}{tail}"


class RowError(CaiError):
    """The row at hand is wrong. Who raises it sees only the row; the runner puts file and line before it."""


class UsageError(CaiError):
    """The command line itself is wrong (exit code 2), as against what it points at (exit code 1)."""

    exit_code = 2


def suggest(name: str, known: Iterable[str]) -> str:
    """What to do about the unknown `name`: the near miss if there is one, else the list of what is known."""
    known = sorted(known)
    near = get_close_matches(name, known, n=1)
    if near:
        return f"did you mean '{near[0]}'?"
    return f"known: {', '.join(known)}" if known else "there are none"
