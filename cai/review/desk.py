"""The terminal at which a human reviews: one comparison at a time, its answers blind and in a drawn order."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cai import manifest
from cai.errors import CaiError
from cai.records import Comparison, draw
from cai.review.decisions import Decision, Decisions
from cai.review.output import principle_of
from cai.terminal import sanitise

if TYPE_CHECKING:
    from rich.console import Console

# The keys of the answers; none of them means anything else.
LETTERS = "abcdefghi"
TIE, SKIP, UNDO, QUIT, HELP = "t", "s", "u", "q", "?"
# Two answers stand side by side from this many columns on.
WIDE = 100


@dataclass(kw_only=True)
class Desk:
    """Shows the queue on `out` and takes keys from `key` until it is through, or the reviewer is.

    `wordings` are the principles' words by id, where they are known. A decision is on the disk before the
    next comparison is shown.
    """

    queue: Sequence[Comparison]
    decisions: Decisions
    out: "Console"
    key: Callable[[], str]
    wordings: Mapping[str, str]
    seed: int

    def work(self) -> None:
        """Go through the queue. Ctrl-C and Ctrl-D quit as the key does."""
        at = 0
        if not self.queue:
            self.out.print("nothing is left to review")
        try:
            while at < len(self.queue):
                at = self._one(at)
                if at < 0:
                    return
        except (KeyboardInterrupt, EOFError):
            self.out.print()

    def _one(self, at: int) -> int:
        """Show a comparison and take a key for it; the number of the one to show next, -1 for none."""
        comparison = self.queue[at]
        shown = drawn_order(comparison, self.seed)
        self._show(at, shown)
        letters = LETTERS[: len(shown)]
        while True:
            key = self.key().lower()
            if len(key) == 1 and key in letters:
                return self._decide(at, shown, shown[letters.index(key)])
            if key == TIE:
                return self._decide(at, shown, None)
            if key == SKIP:
                self.out.print("skipped")
                return at + 1
            if key == QUIT:
                return -1
            if key == UNDO and at:
                self.decisions.take_back(self.queue[at - 1].id)
                self.out.print("back to the one before")
                return at - 1
            self.out.print("there is none before this one" if key == UNDO else help_for(letters))

    def _decide(self, at: int, shown: tuple[int, ...], best: int | None) -> int:
        decision = Decision(comparison=self.queue[at].id, best=best, shown=shown, at=manifest.now())
        self.decisions.add(decision)
        self.out.print("a tie" if best is None else f"{LETTERS[shown.index(best)]} is better")
        return at + 1

    def _show(self, at: int, shown: tuple[int, ...]) -> None:
        comparison = self.queue[at]
        self.out.rule(f"{at + 1} of {len(self.queue)}", align="left")
        for message in comparison.prompt:
            self.out.print(sanitise(f"{message['role']}: {message['content']}"))
        if principle := principle_of(comparison):
            wording = self.wordings.get(principle)
            self.out.print(sanitise(f"\nprinciple {principle}{f': {wording}' if wording else ''}"))
        self._show_answers([comparison.candidates[position].text for position in shown])
        self.out.print(keys_for(LETTERS[: len(shown)]))

    def _show_answers(self, texts: Sequence[str]) -> None:
        from rich.panel import Panel
        from rich.table import Table
        from rich.text import Text

        panels = [Panel(Text(sanitise(text)), title=LETTERS[at]) for at, text in enumerate(texts)]
        if len(panels) > 2 or self.out.width < WIDE:
            for panel in panels:
                self.out.print(panel)
            return
        grid = Table.grid(expand=True)
        for _ in panels:
            grid.add_column(ratio=1)
        grid.add_row(*panels)
        self.out.print(grid)


def drawn_order(comparison: Comparison, seed: int) -> tuple[int, ...]:
    """The candidates' positions in the order in which they are shown, the first as a."""
    count = len(comparison.candidates)
    if count > len(LETTERS):
        too_many = f"comparison {comparison.id} has {count} answers"
        raise CaiError(too_many, next=f"review takes comparisons of at most {len(LETTERS)}")
    return tuple(sorted(range(count), key=lambda at: draw(seed, comparison.id, "review", at)))


def keys_for(letters: str) -> str:
    """The keys in a line."""
    answers = " / ".join(letters)
    return f"\n{answers}: the better answer   t: tie   s: skip   u: undo   q: quit   ?: help"


def help_for(letters: str) -> str:
    """What each key does."""
    return (
        f"{', '.join(letters)}: that answer is the better one; t: neither is\n"
        "s: leave it undecided for now (another session shows it again)\n"
        "u: back to the comparison before, its decision of this session taken back\n"
        "q: stop; what was decided is kept, and the same command goes on from here"
    )
