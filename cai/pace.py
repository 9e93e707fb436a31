"""How far the steps of a run are, against how much there is to do: what a reader wants to know while it goes.

All of it is for people. How many items a step will have is read from the manifests of its inputs or counted
in their lines, and with `part` and `shard` estimated, so it can be off by a little.
"""

import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cai import manifest
from cai.compact import Table
from cai.pipeline import Progress
from cai.shards import places_of
from cai.steps import EvalStep, StageStep

# Seconds over which the pace is taken: long enough for slow requests, short enough to follow a change.
WINDOW = 60.0
_PROMPT_ID = re.compile(rb'"prompt_id": ?"([0-9a-f]{32})"')


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A step at work: `done` of `total` items (None: nobody knows), and the seconds that are `left`."""

    name: str
    done: int
    total: int | None = None
    left: float | None = None
    facts: tuple[str, ...] = ()


@dataclass(kw_only=True)
class Pace:
    """Items a second over the last minute."""

    clock: Callable[[], float] = time.monotonic
    _seen: deque[tuple[float, int]] = field(default_factory=deque)

    def left(self, fresh: int, to_do: float) -> float | None:
        """Seconds for `to_do` more items after this process's `fresh` ones; None while nobody can tell."""
        now = self.clock()
        self._seen.append((now, fresh))
        while len(self._seen) > 2 and self._seen[1][0] <= now - WINDOW:
            self._seen.popleft()
        began, then = self._seen[0]
        if fresh == then or now == began:
            return None
        return to_do * (now - began) / (fresh - then)


class Course:
    """The links of a chain, followed from one report of the runner to the next."""

    def __init__(
        self, steps: Sequence[StageStep | EvalStep], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._steps = {step.output.stem: step for step in steps}
        self._paces = {name: Pace(clock=clock) for name in self._steps}
        self._totals: dict[str, float] = {}

    def standings(self, links: Sequence[Progress]) -> list[Standing]:
        """Where each link stands; what a link has to do is what the link before it will make."""
        found = []
        expected: float | None = None
        for link in links:
            total = self._total(link.name) if expected is None else expected
            total = max(total, link.items)
            left = self._paces[link.name].left(link.fresh, total - link.items)
            found.append(
                Standing(name=link.name, done=link.items, total=round(total), left=left, facts=_facts(link))
            )
            expected = link.rows + (total - link.items) * (link.rows / link.items if link.items else 1)
        return found

    def _total(self, name: str) -> float:
        if name not in self._totals:
            self._totals[name] = items_expected(self._steps[name])
        return self._totals[name]


def _facts(link: Progress) -> tuple[str, ...]:
    facts = [f"{link.rows:,} rows"] if link.rows + link.rejects != link.items else []
    facts += [f"{link.rejects:,} rejects"] if link.rejects else []
    facts += [f"{link.speed:,.0f} tokens/s"] if link.tokens else []
    return tuple(facts)


def items_expected(step: StageStep | EvalStep) -> float:
    """How many items a step whose inputs are there will have."""
    plugin = step.stage if isinstance(step, StageStep) else step.eval
    grouped = getattr(plugin, "groups", False)
    count: float = _prompts(step.inputs) if grouped else sum(map(_rows, step.inputs))
    low, high = step.part
    count *= high - low
    if step.limit is not None:
        count = min(count, step.limit)
    if step.shard and not any(places_of(path).exists() for path in step.inputs):
        count /= step.shard.of
    return count


def _rows(path: Path) -> int:
    made = manifest.load(manifest.path_of(path))
    if made and made.get("complete") and path.name in made.get("files", {}):
        return int(made["counts"]["rows"])
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


def _prompts(paths: Sequence[Path]) -> int:
    """How many prompts the rows of the files are about."""
    seen = Table()
    count = 0
    for path in paths:
        with path.open("rb") as file:
            for line in file:
                found = _PROMPT_ID.search(line)
                count += found is not None and seen.count(bytes.fromhex(found[1].decode())) == 0
    return count


def duration(seconds: float) -> str:
    """40 s, 3 min, 1 h 20 min"""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{rest} s"
