"""Reading and writing JSON lines, one at a time, so that a long file takes no more memory than a short one.

An `Item` is what a stage works on: a row, or all the rows of one prompt. Its key is a digest of the bytes
that it was read from, so finished work is found again by what it was made of, wherever the row stands in its
file.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain, count, groupby, islice
from pathlib import Path
from struct import pack, unpack
from typing import Any, BinaryIO, NamedTuple, TypeVar

import msgspec

from cai.compact import Sorter, Table
from cai.errors import CaiError
from cai.records import (
    Comparison,
    Record,
    Reject,
    comparison_from,
    digest,
    prompt_from,
    record_from,
    reject_from,
)
from cai.shards import Place, Shard, places_of, row_places

T = TypeVar("T", Record, Comparison, Reject)

Part = tuple[float, float]
WHOLE: Part = (0.0, 1.0)

_KEY_BYTES = 16
_BUILDERS: Mapping[type, Callable[[Mapping[str, Any], str], Any]] = {
    Record: record_from,
    Comparison: comparison_from,
    Reject: reject_from,
}
# Keys that only rows of this type have, and what to call them.
_KINDS: Mapping[type, tuple[frozenset[str], str]] = {
    Record: (frozenset({"prompt_id", "turns"}), "records"),
    Comparison: (frozenset({"candidates", "annotations"}), "comparisons"),
    Reject: (frozenset({"stage", "reason"}), "rejects"),
}
_OTHERS = {
    wanted: [(kind, noun) for kind, (_, noun) in _KINDS.items() if kind is not wanted] for wanted in _KINDS
}


@dataclass(frozen=True, slots=True)
class Item:
    """What a stage works on: a row, all rows of one prompt, or the `Reject` of an unreadable line.

    `at` says where it stands among all items of its files, those of other parts and shards included; `where`
    is the file and line for a reader, of a group those of its first row.
    """

    key: bytes
    value: Any
    at: Place
    where: str = ""


class _Line(NamedTuple):
    path: Path
    number: int
    offset: int
    raw: bytes
    at: Place

    @property
    def where(self) -> str:
        return f"{self.path}:{self.number}"


def decode(kind: type[Any], fields: Mapping[str, Any], where: str) -> Any:
    """The row of type `kind` from its JSON object; an eval's verdict is the object as it is."""
    builder = _BUILDERS.get(kind)
    return builder(fields, where) if builder else fields


def key_of(*parts: bytes) -> bytes:
    """128 bits that stand for the bytes an item was read from."""
    hashed = blake2b(digest_size=_KEY_BYTES)
    for part in parts:
        hashed.update(len(part).to_bytes(8, "big"))
        hashed.update(part)
    return hashed.digest()


def items_for(
    stage: Any,
    paths: Sequence[Path],
    *,
    limit: int | None = None,
    part: Part = WHOLE,
    shard: Shard | None = None,
    strict: bool = False,
) -> Iterator[Item]:
    """The items of a stage or an eval, from the files' rows in order; `limit` keeps the first so many items.

    `part` keeps the prompts whose digest, as a number from 0 to 1, is in [low, high): parts that do not
    overlap share no prompt, whatever the files' order. A line that cannot be read has no prompt; it is in the
    part from 0. Of what part and limit leave, `shard` keeps its own prompts.

    Where records are taken, a line may also be a bare request (`{"prompt": ...}`). A line that cannot be
    read is an item with a `Reject`, or with `strict` a `CaiError` that names file and line. A stage that
    `groups` gets the rows of one prompt together, from wherever in the files they stand, in the order of
    first appearance.
    """
    read = _grouped if getattr(stage, "groups", False) else _single
    items = read(stage.takes, paths, strict)
    if part != WHOLE:
        items = (item for item in items if part[0] <= _share(_prompt_id(item.value)) < part[1])
    items = islice(items, limit)
    return items if shard is None else (item for item in items if shard.has(_prompt_id(item.value)))


def _prompt_id(value: Any) -> str:
    row = value[0] if isinstance(value, list) else value
    return str(row.prompt_id)


def _share(prompt_id: str) -> float:
    """Where a prompt stands between 0 and 1."""
    return int(prompt_id[:13], 16) / 16**13 if prompt_id else 0.0


def read_rows(path: Path, kind: type[T]) -> Iterator[T]:
    """Every row of one file; a line that is no such row is a `CaiError`."""
    return (item.value for item in _single(kind, [path], True))


def made_rows(path: Path, kind: type[T]) -> Iterator[T]:
    """The rows that a step of a run made. There may be none, where it rejected every item."""
    return read_rows(path, kind) if path.stat().st_size else iter(())


def read_records(path: Path) -> Iterator[Record]:
    return read_rows(path, Record)


def read_comparisons(path: Path) -> Iterator[Comparison]:
    return read_rows(path, Comparison)


def read_verdicts(path: Path) -> Iterator[dict[str, Any]]:
    """The rows that an eval wrote."""
    return (_parse(line) for line in _placed([path]))


def read_prompts(path: Path, *, strict: bool = False, limit: int | None = None) -> Iterator[Record | Reject]:
    """The requests of a file as fresh records, repeated ones told apart by their occurrence."""
    return (item.value for item in islice(_single(Record, [path], strict), limit))


def _single(kind: type[Any], paths: Sequence[Path], strict: bool) -> Iterator[Item]:
    seen = Table()
    return (_item(line, kind, seen, strict) for line in _placed(paths))


def _placed(paths: Sequence[Path]) -> Iterator[_Line]:
    """The lines of the files, with where they stand: their number, or for a shard's rows their place in all.

    Where there are shards among several files, the number of the file comes first, and the places of all
    files are as long, so that they compare.
    """
    sharded = [places_of(path).exists() for path in paths]
    if not any(sharded):
        numbers = zip(count())
        yield from chain.from_iterable(_lines(path, numbers) for path in paths)
        return
    depth = max(_depth(path) for path, known in zip(paths, sharded, strict=True) if known)
    for file, (path, known) in enumerate(zip(paths, sharded, strict=True)):
        places: Iterator[Place] = row_places(path) if known else zip(count())
        if len(paths) > 1:
            places = _after(file, places, depth)
        yield from _lines(path, places)


def _after(file: int, places: Iterator[Place], depth: int) -> Iterator[Place]:
    return ((file, *place, *(0,) * (depth - len(place))) for place in places)


def _depth(path: Path) -> int:
    """How many numbers there are to the place of a shard's row."""
    return len(next(row_places(path), (0,))) if path.stat().st_size else 1


def _grouped(kind: type[Any], paths: Sequence[Path], strict: bool) -> Iterator[Item]:
    """One pass notes where the rows of each prompt stand, a second reads them prompt by prompt.

    A group stands where its first row does, so the notes are sorted twice: by group, then by that.
    """
    by_group = Sorter()
    seen = Table()
    at: Place = ()
    for line in _placed(paths):
        at = line.at
        row = _item(line, kind, seen, strict).value
        alone = isinstance(row, Reject) and kind is not Reject
        group = key_of(line.where.encode()) if alone else key_of(b"prompt", row.prompt_id.encode())
        where = (*at, paths.index(line.path), line.offset, line.number)
        by_group.add(group + pack(f">{len(where)}Q", *where))
    by_place = Sorter()
    for _, together in groupby(by_group, key=lambda note: note[:_KEY_BYTES]):
        notes = [note[_KEY_BYTES:] for note in together]
        place = notes[0][: 8 * len(at)]
        for note in notes:
            by_place.add(place + note)
    del by_group
    yield from _read_groups(kind, paths, strict, by_place)


def _read_groups(kind: type[Any], paths: Sequence[Path], strict: bool, notes: Sorter) -> Iterator[Item]:
    """The groups that notes stand for: the place of the group, then that of a row, its file, offset, line."""
    handles = [path.open("rb") for path in paths]
    seen = Table()
    try:
        for place, group in groupby(notes, key=lambda note: note[: (len(note) - 24) // 2]):
            items = []
            for note in group:
                *at, file, offset, number = unpack(f">{(len(note) - len(place)) // 8}Q", note[len(place) :])
                line = _line_at(handles[file], paths[file], offset, number, tuple(at))
                items.append(_item(line, kind, seen, strict))
            if isinstance(items[0].value, Reject) and kind is not Reject:
                yield items[0]
            else:
                key = key_of(*(item.key for item in items))
                yield Item(key, [item.value for item in items], items[0].at, items[0].where)
    finally:
        for handle in handles:
            handle.close()


class _WrongFileError(CaiError):
    """No single line is at fault: the file holds something else."""


def _item(line: _Line, kind: type[Any], seen: Table, strict: bool) -> Item:
    where = line.where
    try:
        fields = _parse(line)
        _check_kind(fields, kind, line.path)
        if kind is not Record or _looks_like(Record, fields):
            return Item(key_of(line.raw), decode(kind, fields, where), line.at, where)
        record = prompt_from(fields, lambda prompt_id: seen.count(bytes.fromhex(prompt_id)), where)
        # Equal requests are items of their own, and so are their keys.
        return Item(key_of(line.raw, record.id.encode()), record, line.at, where)
    except _WrongFileError:
        raise
    except CaiError as problem:
        if strict:
            raise
        return Item(key_of(line.raw, str(line.number).encode()), _reject(line, problem), line.at, where)


def _parse(line: _Line) -> Any:
    try:
        return _FAST.decode(line.raw)
    except (ValueError, RecursionError):
        pass  # The standard library says better what is wrong, and reads half a surrogate pair.
    try:
        return _DECODER.decode(line.raw.decode())
    except UnicodeDecodeError as error:
        raise CaiError(
            "this line is no text in UTF-8", where=line.where, next="save the file as UTF-8"
        ) from error
    except (ValueError, RecursionError) as error:
        cause = (
            f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
        )
        next_step = "write one JSON object a line"
        raise CaiError(f"this line is no JSON ({cause})", where=line.where, next=next_step) from error


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


_FAST = msgspec.json.Decoder()
_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def _looks_like(kind: type[Any], fields: Any) -> bool:
    return isinstance(fields, dict) and fields.keys() >= _KINDS[kind][0]


def _check_kind(fields: Any, wanted: type[Any], path: Path) -> None:
    for kind, noun in _OTHERS.get(wanted, ()):
        if _looks_like(kind, fields):
            needed = _KINDS[wanted][1]
            raise _WrongFileError(f"this file holds {noun}", where=str(path), next=f"give a file of {needed}")


def _reject(line: _Line, problem: CaiError) -> Reject:
    raw = line.raw.decode(errors="backslashreplace")
    # The file's name without its folder: the same run elsewhere ends in the same bytes.
    where = f"{line.path.name}:{line.number}"
    return Reject(
        id=digest("bad row", where, raw),
        item="",
        stage="read",
        reason="bad row",
        detail=str(CaiError(problem.what, where=where, next=problem.next)),
        raw=raw,
        line=line.number,
    )


def _lines(path: Path, places: Iterator[Place]) -> Iterator[_Line]:
    """The lines that are not blank, without line ends and byte order mark; `CaiError` when there is none."""
    empty = True
    with _open(path) as file:
        offset = 0
        for number, whole in enumerate(file, start=1):
            raw = _bare(whole, offset)
            if raw:
                if empty:
                    _check_start(raw, path)
                empty = False
                yield _Line(path, number, offset, raw, next(places))
            offset += len(whole)
    # A shard may hold none of the prompts.
    if empty and not places_of(path).exists():
        rejects = path.with_name(f"{path.stem}.rejects.jsonl")
        next_step = f"{rejects} says why" if rejects.exists() else "give a file with one JSON object a line"
        raise CaiError("there is no row in this file", where=str(path), next=next_step)


def _line_at(file: BinaryIO, path: Path, offset: int, number: int, at: Place) -> _Line:
    file.seek(offset)
    return _Line(path, number, offset, _bare(file.readline(), offset), at)


def _bare(whole: bytes, offset: int) -> bytes:
    return (whole.removeprefix(b"\xef\xbb\xbf") if offset == 0 else whole).strip()


def _check_start(raw: bytes, path: Path) -> None:
    """Name the two files that would otherwise be a heap of bad lines."""
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise CaiError("this file is UTF-16", where=str(path), next="save it as UTF-8")
    if raw.startswith(b"["):
        raise CaiError("this file is one JSON array", where=str(path), next="write one JSON object a line")


def _open(path: Path) -> BinaryIO:
    where = str(path)
    if path.suffix != ".jsonl":
        raise CaiError("this is no .jsonl file", where=where, next="give a file with one JSON object a line")
    if path.is_dir():
        raise CaiError("this is a folder", where=where, next="give one of the .jsonl files in it")
    unfinished = path.with_name(f"{path.name}.partial")
    if not path.exists() and unfinished.exists():
        raise CaiError("this file is not finished", where=where, next="run the command that makes it again")
    try:
        return path.open("rb")
    except FileNotFoundError as error:
        raise CaiError("there is no such file", where=where, next="give the path of a .jsonl file") from error
    except OSError as error:
        next_step = "check the file's permissions"
        raise CaiError(f"cannot be read ({error.strerror})", where=where, next=next_step) from error
