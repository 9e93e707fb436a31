"""One run on many machines: which prompts a shard takes, what its files are called, where its rows stand.

Shard 3 of 8 of runs/x/critiques.jsonl is runs/x/critiques.3-of-8.jsonl, with a manifest and rejects of that
name. In critiques.3-of-8.places there is a line for each of its items: the numbers of its place among the
items of all shards, how many rows it has, and how many rejects. So `cai merge` can put the shards together
in the order that one run on one machine would have written.
"""

import json
import re
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple, Protocol

from cai.errors import CaiError

_NAME = re.compile(r"(.+)\.[1-9]\d*-of-[1-9]\d*(\.rejects)?")

Place = tuple[int, ...]


class Shard(NamedTuple):
    """The shard with a `number`, from 1, `of` so many."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def has(self, prompt_id: str) -> bool:
        """Whether the prompt is in this shard: each is in exactly one, whatever file it is from.

        The prompt's digest falls into one of `of` equal intervals. It is another digest than the one
        that a step's `part` goes by, so that the shards of a part are of one size too. What has no prompt
        (an unreadable line) is in the first shard.
        """
        if not prompt_id:
            return self.number == 1
        drawn = blake2b(prompt_id.encode("utf-8", "surrogatepass"), digest_size=8, person=b"shard").digest()
        return int.from_bytes(drawn) * self.of >> 64 == self.number - 1


class Counted(Protocol):
    """The rows and the rejects of an item, as encoded."""

    @property
    def rows(self) -> Sequence[bytes]: ...

    @property
    def rejects(self) -> Sequence[bytes]: ...


def shard_from(text: str) -> Shard | None:
    """The shard that "3/8" means; None for what is no shard."""
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    shard = Shard(*map(int, found.groups())) if found else None
    return shard if shard and 1 <= shard.number <= shard.of else None


def path_of(output: Path, shard: Shard | None) -> Path:
    """runs/x/critiques.jsonl -> runs/x/critiques.3-of-8.jsonl; as it is where nothing is sharded."""
    if shard is None:
        return output
    return output.with_name(f"{output.stem}.{shard.number}-of-{shard.of}{output.suffix}")


def whole_of(output: Path) -> Path:
    """runs/x/critiques.3-of-8.jsonl -> runs/x/critiques.jsonl"""
    return output.with_name(f"{name_of(output)}{output.suffix}")


def name_of(output: Path) -> str:
    """runs/x/critiques.3-of-8.jsonl -> critiques"""
    found = _NAME.fullmatch(output.stem)
    return found.group(1) + (found.group(2) or "") if found else output.stem


def shards_of(output: Path) -> list[Path]:
    """The shards of an output that lie beside it by their names, unfinished ones included."""
    return [path for path in shards_in(output.parent) if whole_of(path) == output]


def shards_in(folder: Path) -> list[Path]:
    """All shards in a folder."""
    manifests = (path for path in sorted(folder.glob("*.json")) if _NAME.fullmatch(path.stem))
    return [path.with_suffix(".jsonl") for path in manifests]


def places_of(output: Path) -> Path:
    """runs/x/critiques.3-of-8.jsonl -> runs/x/critiques.3-of-8.places"""
    return output.with_suffix(".places")


def place_line(place: Sequence[int], entry: Counted) -> bytes:
    """The line of an item."""
    return json.dumps([*place, len(entry.rows), len(entry.rejects)]).encode()


def read_places(output: Path) -> Iterator[tuple[Place, int, int]]:
    """The place of each item of a shard, in order, and how many rows and rejects it has."""
    with places_of(output).open("rb") as file:
        for line in file:
            *place, rows, rejects = json.loads(line)
            yield tuple(place), rows, rejects


def row_places(output: Path) -> Iterator[Place]:
    """The place of each row of a shard: its item's, and its number among the item's rows."""
    for place, rows, _ in read_places(output):
        for index in range(rows):
            yield (*place, index)
    # A line of the file of rows that no item made.
    added = "there are rows here that are not in its .places file"
    raise CaiError(added, where=str(output), next="make the shard anew, with --redo")
