"""What a reviewer decided: a line for each key that decides, on the disk before the next comparison is shown.

The first line says who decides about what. A later line about a comparison stands in the place of an earlier
one. A process that is killed leaves at most one torn line at the end, which the next one cuts off.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from cai import manifest
from cai.errors import CaiError
from cai.journal import writing
from cai.records import digest


@dataclass(frozen=True, kw_only=True)
class Decision:
    """`best` is the position of the answer that was chosen, None for a tie; `shown` the order they had."""

    comparison: str
    best: int | None
    shown: tuple[int, ...]
    at: str


def decisions_of(output: Path) -> Path:
    """runs/x/reviewed.jsonl -> runs/x/reviewed.decisions.jsonl"""
    return output.with_suffix(".decisions.jsonl")


class Decisions:
    """The decisions of one reviewer about the rows of one file, earlier sessions' included.

    `identity` says who and which file. Raises `CaiError` for decisions of another identity, and for a file
    that is damaged.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path = path
        self.standing: dict[str, Decision] = {}
        self._head = {"review": manifest.plain(identity)}
        self._file: BinaryIO | None = None
        self._size = self._read() if path.exists() else 0

    @property
    def fingerprint(self) -> str:
        """A digest of what stands, whatever was taken back on the way to it."""
        standing = sorted(self.standing.values(), key=lambda one: one.comparison)
        return digest("decisions", [(one.comparison, one.best, one.shown) for one in standing])

    def add(self, decision: Decision) -> None:
        """Decide; on the disk when this returns."""
        self._append(asdict(decision))
        self.standing[decision.comparison] = decision

    def take_back(self, comparison: str) -> None:
        """Undo the decision about a comparison; without one, nothing happens."""
        if comparison in self.standing:
            self._append({"comparison": comparison, "taken_back": True})
            del self.standing[comparison]

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _append(self, row: Mapping[str, Any]) -> None:
        with writing(self.path):
            if self._file is None:
                self._file = self.path.open("ab", buffering=0)
                self._file.truncate(self._size)
                if not self._size:
                    self._write(self._head)
            self._write(row)
            os.fsync(self._file.fileno())

    def _write(self, row: Mapping[str, Any]) -> None:
        assert self._file is not None
        self._file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")

    def _read(self) -> int:
        """Take up what is there; where the whole lines end."""
        size = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    break
                try:
                    row = json.loads(line)
                    self._take(row, first=number == 1)
                except (ValueError, KeyError, TypeError) as error:
                    damaged = "this line is no decision of cai review"
                    next_step = "mend or remove the line, or give another output"
                    raise CaiError(damaged, where=f"{self.path}:{number}", next=next_step) from error
                size += len(line)
        return size

    def _take(self, row: Mapping[str, Any], *, first: bool) -> None:
        if first:
            if row["review"] != self._head["review"]:
                changed = manifest.difference(row["review"], self._head["review"])
                raise CaiError(
                    f"{self.path} was made with {changed}",
                    next="give another output; no decision is thrown away",
                )
        elif "taken_back" in row:
            self.standing.pop(row["comparison"], None)
        else:
            decision = Decision(**{**row, "shown": tuple(row["shown"])})
            self.standing[decision.comparison] = decision
