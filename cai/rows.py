"""Reading and writing JSON lines, one at a time, so that a long file takes no more memory than a short one.

An `Item` is what a stage works on: a row, or all the rows of one prompt. Its key is a digest of the bytes
that it was read from, so finished work is found again by what it was made of, wherever the row stands in its
file.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

from cai.errors import CaiError
from cai.records import (
    Comparison,
    Record,
    Reject,
    Row,
    comparison_from,
    digest,
    prompt_from,
    record_from,
    reject_from,
)

T = TypeVar("T", Record, Comparison, Reject)

Part = tuple[float, float]
WHOLE: Part = (0.0, 1.0)

_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=vars)
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


@dataclass(frozen=True, slots=True)
class Item:
    """What a stage works on: a row, all rows of one prompt, or the `Reject` of an unreadable line."""

    key: bytes
    value: Any


class _Line(NamedTuple):
    path: Path
    number: int
    offset: int
    raw: bytes

    @property
    def where(self) -> str:
        return f"{self.path}:{self.number}"


def encode(row: Row | Mapping[str, Any]) -> bytes:
    """The JSON of a row in UTF-8, without a newline; `ValueError` for a number that JSON has no word for."""
    text = _ENCODER.encode(row)
    try:
        return text.encode()
    except UnicodeEncodeError:
        # Half a surrogate pair: JSON can hold it only as an escape.
        return json.dumps(json.loads(text)).encode()


def decode(kind: type[Any], fields: Mapping[str, Any], where: str) -> Any:
    """The row of type `kind` from its JSON object; an eval's verdict is the object as it is."""
    builder = _BUILDERS.get(kind)
    return builder(fields, where) if builder else fields


def key_of(*parts: bytes) -> bytes:
    """128 bits that stand for the bytes an item was read from."""
    hashed = blake2b(digest_size=16)
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
    strict: bool = False,
) -> Iterator[Item]:
    """The items of a stage or an eval, from the files' rows in order; `limit` keeps the first so many items.

    `part` keeps the prompts whose digest, as a number from 0 to 1, is in [low, high): parts that do not
    overlap share no prompt, whatever the files' order. A line that cannot be read has no prompt; it is in the
    part from 0.

    Where records are taken, a line may also be a bare request (`{"prompt": ...}`). A line that cannot be
    read is an item with a `Reject`, or with `strict` a `CaiError` that names file and line. A stage that
    `groups` gets the rows of one prompt together, from wherever in the files they stand, in the order of
    first appearance.
    """
    read = _grouped if getattr(stage, "groups", False) else _single
    items = read(stage.takes, paths, strict)
    if part != WHOLE:
        items = (item for item in items if part[0] <= _place(item.value) < part[1])
    return islice(items, limit)


def _place(value: Any) -> float:
    """Where an item's prompt stands between 0 and 1."""
    row = value[0] if isinstance(value, list | tuple) else value
    return int(row.prompt_id[:13], 16) / 16**13 if row.prompt_id else 0.0


def read_rows(path: Path, kind: type[T]) -> Iterator[T]:
    """Every row of one file; a line that is no such row is a `CaiError`."""
    return (item.value for item in _single(kind, [path], True))


def read_records(path: Path) -> Iterator[Record]:
    return read_rows(path, Record)


def read_comparisons(path: Path) -> Iterator[Comparison]:
    return read_rows(path, Comparison)


def read_verdicts(path: Path) -> Iterator[dict[str, Any]]:
    """The rows that an eval wrote."""
    return (_parse(line) for line in _lines(path))


def read_prompts(path: Path, *, strict: bool = False, limit: int | None = None) -> Iterator[Record | Reject]:
    """The requests of a file as fresh records, repeated ones told apart by their occurrence."""
    return (item.value for item in islice(_single(Record, [path], strict), limit))


def _single(kind: type[Any], paths: Sequence[Path], strict: bool) -> Iterator[Item]:
    seen: dict[str, int] = {}
    for path in paths:
        for line in _lines(path):
            yield _item(line, kind, seen, strict)


def _grouped(kind: type[Any], paths: Sequence[Path], strict: bool) -> Iterator[Item]:
    """One pass notes where the rows of each prompt stand, a second reads them prompt by prompt."""
    places: dict[str, list[tuple[int, int, int]]] = {}
    seen: dict[str, int] = {}
    for file, path in enumerate(paths):
        for line in _lines(path):
            row = _item(line, kind, seen, strict).value
            group = (
                f"bad line {line.where}" if isinstance(row, Reject) and kind is not Reject else row.prompt_id
            )
            places.setdefault(group, []).append((file, line.offset, line.number))
    handles = [path.open("rb") for path in paths]
    try:
        seen = {}
        for group in places.values():
            lines = (_line_at(handles[file], paths[file], offset, number) for file, offset, number in group)
            items = [_item(line, kind, seen, strict) for line in lines]
            if isinstance(items[0].value, Reject) and kind is not Reject:
                yield items[0]
            else:
                yield Item(key_of(*(item.key for item in items)), [item.value for item in items])
    finally:
        for handle in handles:
            handle.close()


class _WrongFileError(CaiError):
    """No single line is at fault: the file holds something else."""


def _item(line: _Line, kind: type[Any], seen: dict[str, int], strict: bool) -> Item:
    try:
        fields = _parse(line)
        _check_kind(fields, kind, line.path)
        if kind is not Record or _looks_like(Record, fields):
            return Item(key_of(line.raw), decode(kind, fields, line.where))
        record = prompt_from(fields, seen, line.where)
        _check_finite(record.meta, line.where)
        seen[record.prompt_id] = seen.get(record.prompt_id, 0) + 1
        # Equal requests are items of their own, and so are their keys.
        return Item(key_of(line.raw, record.id.encode()), record)
    except _WrongFileError:
        raise
    except CaiError as problem:
        if strict:
            raise
        return Item(key_of(line.raw, str(line.number).encode()), _reject(line, problem))


def _parse(line: _Line) -> Any:
    try:
        return json.loads(line.raw.decode(), parse_constant=_no_constant)
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


def _check_finite(meta: Mapping[str, Any], where: str) -> None:
    for key, value in meta.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise CaiError(f"'{key}' is too large a number", where=where, next="write it as a string")


def _looks_like(kind: type[Any], fields: Any) -> bool:
    return isinstance(fields, dict) and fields.keys() >= _KINDS[kind][0]


def _check_kind(fields: Any, wanted: type[Any], path: Path) -> None:
    for kind, (_, noun) in _KINDS.items():
        if kind is not wanted and wanted in _KINDS and _looks_like(kind, fields):
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


def _lines(path: Path) -> Iterator[_Line]:
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
                yield _Line(path, number, offset, raw)
            offset += len(whole)
    if empty:
        rejects = path.with_name(f"{path.stem}.rejects.jsonl")
        next_step = f"{rejects} says why" if rejects.exists() else "give a file with one JSON object a line"
        raise CaiError("there is no row in this file", where=str(path), next=next_step)


def _line_at(file: BinaryIO, path: Path, offset: int, number: int) -> _Line:
    file.seek(offset)
    return _Line(path, number, offset, _bare(file.readline(), offset))


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
