"""Shards -> the output that one run would have made, byte for byte and under the same identity.

Each shard's .places file says where its items stand among those of all, so the rows are merged in one pass
that holds a row of each shard. What the merged file is used for can tell no difference.
"""

import resource
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from hashlib import blake2b
from heapq import merge as merged
from pathlib import Path
from typing import Any, BinaryIO

from cai import manifest, runs
from cai.claim import Claim
from cai.errors import CaiError
from cai.journal import writing
from cai.shards import Place, Shard, places_of, read_places, shards_of
from cai.whole_file import WholeFile, sync


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A finished shard."""

    path: Path
    shard: Shard
    manifest: dict[str, Any]

    @property
    def identity(self) -> dict[str, Any]:
        """That of the whole."""
        return manifest.whole(self.manifest["identity"])


@dataclass(frozen=True, kw_only=True)
class _Entry:
    part: _Part
    place: Place
    rows: list[bytes]
    rejects: list[bytes]


def merge(output: Path, shards: Sequence[Path] = (), *, redo: bool = False) -> bool:
    """Make `output` of its shards: of `shards`, or of those that lie beside it. Whether it was made anew.

    Raises `CaiError` for shards that are missing, unfinished, changed, given twice or of another making, and
    for an output of another making. Killed at any moment, the same call ends in the same files.
    """
    parts = _checked(output, [_part(path) for path in shards or _found(output)])
    identity = parts[0].identity
    if redo:
        runs.discard(output)
    if runs.is_complete(output, identity):
        return False
    claim = Claim(output)
    try:
        with writing(output):
            # The files are ours from the first byte on.
            manifest.write(output, {**manifest.begun(identity), "made_by": _made_by(parts)})
            files = _write(output, parts)
            sync(output.parent)
            runs.finish(output, _described(parts), files)
            runs.journal_of(output).unlink(missing_ok=True)
    finally:
        claim.release()
    return True


def _found(output: Path) -> list[Path]:
    found = shards_of(output)
    if not found:
        name = f"{output.stem}.1-of-N.jsonl"
        missing = f"there is no shard of it here (none is called {name} or so)"
        raise CaiError(missing, where=str(output), next="make them with --shard, or give their files")
    return found


def _part(path: Path) -> _Part:
    where = str(path)
    found = manifest.read(path) if path.suffix == ".jsonl" else None
    if found is None:
        what = "cai did not make this file" if path.exists() else "there is no such file"
        raise CaiError(what, where=where, next="give .jsonl files that were made with --shard")
    if "shard" not in found["identity"]:
        raise CaiError("this is no shard", where=where, next="give .jsonl files that were made with --shard")
    shard = Shard(*found["identity"]["shard"])
    if not found["complete"]:
        unfinished = f"shard {shard} is not finished"
        raise CaiError(unfinished, where=where, next="run the command that makes it again")
    for name in found["files"]:
        if not path.with_name(name).exists():
            gone = f"'{name}' of shard {shard} is gone"
            raise CaiError(gone, where=where, next="run the command that makes it again")
    return _Part(path=path, shard=shard, manifest=found)


def _checked(output: Path, parts: Sequence[_Part]) -> list[_Part]:
    """The parts in order, if they are all shards there are, once each, and of one making."""
    first = parts[0]
    known: dict[Shard, _Part] = {}
    for part in parts:
        if part.shard.of != first.shard.of:
            other = f"this is shard {part.shard}, and {first.path} is shard {first.shard}"
            raise CaiError(other, where=str(part.path), next="give shards of one number")
        if part.shard in known:
            twice = f"this is shard {part.shard}, and so is {known[part.shard].path}"
            raise CaiError(twice, where=str(part.path), next="leave one out")
        if part.identity != first.identity:
            changed = f"was made with {manifest.difference(first.identity, part.identity)}"
            next_step = "make the one that is wrong anew, with --redo"
            raise CaiError(f"{changed} than {first.path}", where=str(part.path), next=next_step)
        known[part.shard] = part
    every = [Shard(number, first.shard.of) for number in range(1, first.shard.of + 1)]
    missing = [str(shard) for shard in every if shard not in known]
    if missing:
        listed = f"shard {missing[0]} is" if len(missing) == 1 else f"shards {_listed(missing)} are"
        raise CaiError(f"{listed} missing", where=str(output), next="make what is missing, then merge")
    return [known[shard] for shard in every]


def _listed(names: Sequence[str]) -> str:
    shown = list(names) if len(names) <= 6 else [*names[:5], f"{len(names) - 5} more"]
    return f"{', '.join(shown[:-1])} and {shown[-1]}"


def _write(output: Path, parts: Sequence[_Part]) -> dict[str, Any]:
    """Merge rows and rejects into the final files; their sizes and digests."""
    _allow_open_files(3 * len(parts) + 64)
    with ExitStack() as stack:
        rows, rejects = files = [
            stack.enter_context(WholeFile(path)) for path in (output, manifest.rejects_of(output))
        ]
        depths: dict[int, _Part] = {}
        for entry in merged(*map(_entries, parts), key=lambda entry: entry.place):
            depths.setdefault(len(entry.place), entry.part)
            if len(depths) > 1:
                raise _other_places(*depths.values())
            rows.add(entry.rows)
            rejects.add(entry.rejects)
        return runs.put_in_place(files, {output})


def _other_places(one: _Part, other: _Part) -> CaiError:
    what = f"one of this and {one.path} was made of a whole file, the other of a shard's"
    return CaiError(what, where=str(other.path), next="make both of files of one kind, with --redo")


def _entries(part: _Part) -> Iterator[_Entry]:
    """The items of a shard in order. Raises `CaiError` in the end when its files were changed."""
    rejects = manifest.rejects_of(part.path)
    with ExitStack() as stack:
        paths = [part.path, *([rejects] if rejects.name in part.manifest["files"] else [])]
        files = [_Checked(path=path, file=stack.enter_context(path.open("rb"))) for path in paths]
        for place, rows, rejected in read_places(part.path):
            lines = [file.lines(count) for file, count in zip(files, (rows, rejected), strict=False)]
            yield _Entry(part=part, place=place, rows=lines[0], rejects=lines[1] if rejected else [])
        places = places_of(part.path)
        digests = {file.path.name: file.rest() for file in files} | {places.name: manifest.digest_of(places)}
    for name, digest in digests.items():
        if digest != part.manifest["files"][name]["digest"]:
            changed = "this file was changed after cai made it"
            where = str(part.path.with_name(name))
            raise CaiError(changed, where=where, next=f"make shard {part.shard} anew, with --redo")


@dataclass(kw_only=True)
class _Checked:
    """A file that is read line by line, and digested on the way."""

    path: Path
    file: BinaryIO
    digested: Any = field(default_factory=lambda: blake2b(digest_size=16))

    def lines(self, count: int) -> list[bytes]:
        """So many lines, without their ends."""
        whole = [self.file.readline() for _ in range(count)]
        for line in whole:
            self.digested.update(line)
        return [line.removesuffix(b"\n") for line in whole]

    def rest(self) -> str:
        """The digest of all, once what is left is read."""
        while block := self.file.read(1 << 20):
            self.digested.update(block)
        return str(self.digested.hexdigest())


def _allow_open_files(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        most = count if hard == resource.RLIM_INFINITY else min(count, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


def _made_by(parts: Sequence[_Part]) -> list[Any]:
    made_by: list[Any] = []
    for part in parts:
        made_by += [one for one in part.manifest["made_by"] if one not in made_by]
    return made_by


def _described(parts: Sequence[_Part]) -> dict[str, Any]:
    """The manifest of the whole: counts, tokens and seconds are sums, over all machines."""
    found = [part.manifest for part in parts]
    tokens = {kind: sum(one["tokens"][kind] for one in found) for kind in ("prompt", "cached", "generated")}
    rejects: Counter[str] = sum((Counter(one["counts"]["rejects"]) for one in found), Counter())
    seconds = round(sum(one["seconds"] for one in found), 3)
    return {
        **manifest.begun(parts[0].identity),
        "made_by": _made_by(parts),
        "started": min(one["started"] for one in found),
        "seconds": seconds,
        "tokens_per_second": manifest.speed(tokens["generated"], seconds),
        "counts": {
            "items": sum(one["counts"]["items"] for one in found),
            "rows": sum(one["counts"]["rows"] for one in found),
            "rejects": dict(sorted(rejects.items())),
        },
        "tokens": tokens,
        "shards": len(parts),
    }
