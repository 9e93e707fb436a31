"""The journal of an unfinished output: one line per finished item, so an item is there whole or not at all.

A line is a head, `{"of": KEY, "tokens": [prompt, cached, generated], "rejects": COUNT}`, and the item's
rows, the rejects last, each as it will stand in the final file. Tabs part them: JSON has none outside of
escapes. It goes to the file in one write, so a process that is killed leaves at most one torn line at the
end, which the next one cuts off.
"""

import json
import os
import re
import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from cai.compact import Table
from cai.errors import CaiError

# Items stand in the order they were finished in, near where the input has them: room for back and forth.
_READ = 1 << 18

# The head as it is written, read without a JSON parser: each entry is read once more at the end.
_HEAD = re.compile(rb'\{"of": "[0-9a-f]+", "tokens": \[(\d+), (\d+), (\d+)\], "rejects": (\d+)\}')

# Prompt, cached and generated.
Tokens = tuple[int, int, int]


class Entry(NamedTuple):
    """A line of the journal, read back; rows and rejects as encoded."""

    tokens: Tokens
    rows: list[bytes]
    rejects: list[bytes]


@dataclass(slots=True)
class Tally:
    """Running sums over entries."""

    items: int = 0
    rows: int = 0
    rejects: Counter[str] = field(default_factory=Counter)
    tokens: Tokens = (0, 0, 0)

    def add(self, rows: int, reasons: Sequence[str], tokens: Tokens) -> None:
        """Count an item, with the reason of each of its rejects."""
        prompt, cached, generated = self.tokens
        self.items += 1
        self.rows += rows
        if reasons:
            self.rejects.update(reasons)
        self.tokens = (prompt + tokens[0], cached + tokens[1], generated + tokens[2])


class writing:
    """A full disk, or one that refuses, is no bug of ours: name the file and what to do."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            next_step = "put that right and run the same command again"
            what = f"cannot be written ({error.strerror})"
            raise CaiError(what, where=str(self.path), next=next_step) from error


class Journal:
    """An open journal. Opening it cuts off a torn last line and indexes the rest (some 50 bytes an entry)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._index, size = _index(path)
        self._file = path.open("ab", buffering=0)
        if self._file.tell() > size:
            self._file.truncate(size)
        self._end = size
        self._reader = path.open("rb", buffering=_READ)

    def find(self, key: bytes) -> int | None:
        """Where the entry of an item starts, if an earlier process wrote one."""
        return self._index.get(key)

    def append(self, key: bytes, rows: Sequence[bytes], rejects: Sequence[bytes], tokens: Tokens) -> int:
        """Write an entry of encoded rows; returns where it starts."""
        head = b'{"of": "%s", "tokens": [%d, %d, %d], "rejects": %d}'
        line = b"\t".join((head % (key.hex().encode(), *tokens, len(rejects)), *rows, *rejects)) + b"\n"
        start, self._end = self._end, self._end + len(line)
        with writing(self.path):
            rest = memoryview(line)
            while rest:
                rest = rest[self._file.write(rest) :]
        return start

    def read(self, offset: int) -> Entry:
        """The entry that starts at `offset`."""
        self._reader.seek(offset)
        head, *rows = self._reader.readline().rstrip(b"\n").split(b"\t")
        found = _HEAD.fullmatch(head)
        if found is None:
            raise _damaged(f"{self.path}, byte {offset}")
        prompt, cached, generated, rejects = map(int, found.groups())
        cut = len(rows) - rejects
        return Entry((prompt, cached, generated), rows[:cut], rows[cut:])

    def sync(self) -> None:
        """Wait until everything written is on the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()
        self._reader.close()


def _index(path: Path) -> tuple[Table, int]:
    """Key -> offset of its newest entry, and where the whole entries end."""
    index = Table()
    offset = 0
    if not path.exists():
        return index, offset
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                break
            try:
                index.put(bytes.fromhex(json.loads(line[: line.find(b"\t")])["of"]), offset)
            except (ValueError, KeyError, TypeError, struct.error) as error:
                raise _damaged(f"{path}:{number}") from error
            offset += len(line)
    return index, offset


def _damaged(where: str) -> CaiError:
    next_step = "the disk or somebody else wrote to it: start a new run, or redo this step"
    return CaiError("this line is damaged", where=where, next=next_step)
