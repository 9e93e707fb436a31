"""An output of a run: NAME.jsonl, NAME.rejects.jsonl, NAME.json (and of a shard NAME.places); whole or
resumable whatever happens.

While it is made there is a manifest that says `"complete": false` and a journal, NAME.jsonl.partial. When
every item is done, the rows are sorted by where their items stood in the input, so neither the order of
completion nor a kill shows in the result. The two files are put in place, then the manifest says
`"complete": true`, then the journal goes: a kill between any two of these steps is put right by taking the
last of them again.
"""

import json
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from struct import pack, unpack
from typing import Any, Literal

from cai import manifest
from cai.claim import Claim, holder_of, lock_of
from cai.clock import Clock
from cai.compact import Sorter
from cai.encoding import encode
from cai.errors import CaiError
from cai.journal import Entry, Journal, Tally, Tokens, writing
from cai.records import Reject
from cai.shards import name_of, place_line, places_of
from cai.whole_file import WholeFile, sync

# How much of a run the kernel may still hold in memory when the power goes.
_SYNC_SECONDS = 10.0
# How old the counts in an unfinished manifest may be, for whoever looks at a run while it goes.
_TELL_SECONDS = 2.0


def journal_of(output: Path) -> Path:
    """runs/x/responses.jsonl -> runs/x/responses.jsonl.partial"""
    return output.with_name(f"{output.name}.partial")


def redo(name: str) -> str:
    """How a step is made anew, said for whoever may have asked: only a recipe has several steps to name."""
    return f"--redo (of cai run: --redo {name})"


def is_complete(path: Path, identity: Mapping[str, Any]) -> bool:
    """Whether nothing is left to do for this output.

    Raises `CaiError` when it was made under another identity, when cai did not make it, or when somebody
    changed it.
    """
    complete = _is_complete(path, identity)
    if complete and (journal_of(path).exists() or lock_of(path).exists()):
        _tidy(path)
    return complete


def _tidy(path: Path) -> None:
    """Clear away what a kill between the manifest's last word and the end left, unless its writer lives."""
    with suppress(CaiError, OSError):
        claim = Claim(path)
        journal_of(path).unlink(missing_ok=True)
        claim.release()


def _is_complete(path: Path, identity: Mapping[str, Any]) -> bool:
    found = manifest.read(path)
    if found is None:
        _check_ours(path)
        return False
    if not found["complete"] and _is_empty(journal_of(path)):
        # Begun and broken off before there was anything to lose, under whatever identity.
        return False
    if found["identity"] != (wanted := manifest.plain(identity)):
        changed = manifest.difference(found["identity"], wanted)
        raise CaiError(f"{path} was made with {changed}", next=f"start a new run, or {redo(name_of(path))}")
    return bool(found["complete"]) and _stands(path, found["files"])


def discard(path: Path) -> None:
    """Delete an output and all that belongs to it, so that it is made anew.

    Raises `CaiError` when cai did not make it, and when another process is writing it.
    """
    if manifest.read(path) is None:
        _check_ours(path)
        return
    claim = Claim(path)
    # The manifest goes last: without it, what a kill leaves of the rest would be nobody's.
    others = (manifest.rejects_of(path), places_of(path), journal_of(path), manifest.path_of(path))
    for part in (path, *others):
        part.unlink(missing_ok=True)
    claim.release()


def _is_empty(path: Path) -> bool:
    return not path.exists() or path.stat().st_size == 0


def _check_ours(path: Path) -> None:
    """Without a manifest there must be nothing that a run would overwrite or go on from."""
    for part in (path, manifest.rejects_of(path), journal_of(path)):
        if part.exists():
            next_step = "give another output, or move that file away"
            raise CaiError("cai did not make this file", where=str(part), next=next_step)


def _stands(path: Path, files: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether the files are as the manifest has them; one that is gone is to be made again."""
    for name, described in files.items():
        part = path.with_name(name)
        if not part.exists():
            return False
        if part.stat().st_size != described["bytes"]:
            next_step = f"put the old one back, or {redo(name_of(path))}"
            raise CaiError("this file was changed after cai made it", where=str(part), next=next_step)
    return True


def open_output(path: Path, identity: Mapping[str, Any]) -> "Output | None":
    """Claim an output and take up what an earlier process left of it; None when nothing is left to do.

    Raises `CaiError` as `is_complete` does, and while another process writes it.
    """
    if path.suffix != ".jsonl":
        raise CaiError("an output is a .jsonl file", where=str(path), next=f"write {path.stem}.jsonl")
    if is_complete(path, identity):
        return None
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        claim = Claim(path)
    try:
        # Asked again: another process may have finished it before we had the claim.
        if _is_complete(path, identity):
            claim.release()
            return None
        return Output(path, claim, _begin(path, identity))
    except BaseException:
        claim.release()
        raise


class Output:
    """An output being written, from `open_output`.

    `write` adds a finished item, `found` takes over one that an earlier process finished; each says `at`
    where the item stands in the input. `finish` makes the final files.
    """

    def __init__(self, path: Path, claim: Claim, begun: Mapping[str, Any]) -> None:
        self.path = path
        self.tally = Tally()
        self._claim = claim
        self._manifest = begun
        self._journal = Journal(journal_of(path))
        self._kept = Sorter()
        self._asked = 0
        self._closing = 0.0
        self._synced = self._told = time.monotonic()
        self.share(Clock())

    def share(self, clock: Clock) -> None:
        """Count the time on this clock from now on, with the other outputs that do."""
        clock.join()
        self._clock = clock

    @property
    def seconds(self) -> float:
        """How long this process has been at it."""
        return self._clock.share(self._asked) + self._closing

    def found(self, key: bytes, at: Sequence[int]) -> Entry | None:
        """The rows of an item that was finished before, or None; found, they count as this run's."""
        offset = self._journal.find(key)
        if offset is None:
            return None
        entry = self._journal.read(offset)
        self._keep(at, offset)
        self.tally.add(len(entry.rows), [json.loads(row)["reason"] for row in entry.rejects], entry.tokens)
        return entry

    def write(self, key: bytes, at: Sequence[int], rows: Sequence[Any], tokens: Tokens) -> list[bytes]:
        """Add a finished item; returns its encoded rows, without the rejects.

        A kill of the process cannot lose it any more; a loss of power can take the last seconds.
        """
        kept = [encode(row) for row in rows if not isinstance(row, Reject)]
        rejects = [row for row in rows if isinstance(row, Reject)]
        self._keep(at, self._journal.append(key, kept, [encode(row) for row in rejects], tokens))
        self.tally.add(len(kept), [row.reason for row in rejects], tokens)
        prompt, cached, generated = tokens
        self._asked += prompt - cached + generated
        self._clock.count(prompt - cached + generated)
        if time.monotonic() - self._told > _TELL_SECONDS:
            self._tell()
        return kept

    def finish(self) -> None:
        """Sort the rows into the final files, and say that they are complete."""
        self._clock.stop()
        began = time.monotonic()
        with writing(self.path):
            self._journal.sync()
            files = self._write_files()
            sync(self.path.parent)
            self._closing = time.monotonic() - began
            finish(self.path, self._described(), files)
            journal_of(self.path).unlink()

    def close(self) -> None:
        """Let go of the output. What is not finished can be taken up again."""
        self._journal.close()
        self._claim.release()

    def _keep(self, at: Sequence[int], offset: int) -> None:
        # Big-endian numbers: the bytes sort as the numbers do.
        self._kept.add(pack(f">{len(at) + 1}Q", *at, offset))

    def _write_files(self) -> dict[str, Any]:
        """The rows and the rejects in order, and of a shard where they stand; their sizes and digests."""
        sharded = "shard" in self._manifest["identity"]
        names = (self.path, manifest.rejects_of(self.path), places_of(self.path))
        with ExitStack() as stack:
            rows, rejects, places = files = [stack.enter_context(WholeFile(name)) for name in names]
            for packed in self._kept:
                *place, offset = unpack(f">{len(packed) // 8}Q", packed)
                entry = self._journal.read(offset)
                rows.add(entry.rows)
                rejects.add(entry.rejects)
                if sharded:
                    places.add([place_line(place, entry)])
            return put_in_place(files, {rows.path, *([places.path] if sharded else [])})

    def _described(self) -> dict[str, Any]:
        """The manifest as of now."""
        prompt, cached, generated = self.tally.tokens
        rejects = dict(sorted(self.tally.rejects.items()))
        seconds = self._manifest["seconds"] + self.seconds
        return {
            **self._manifest,
            "seconds": round(seconds, 3),
            "tokens_per_second": manifest.speed(generated, seconds),
            "counts": {"items": self.tally.items, "rows": self.tally.rows, "rejects": rejects},
            "tokens": {"prompt": prompt, "cached": cached, "generated": generated},
        }

    def _tell(self) -> None:
        """Say in the manifest how far it is; now and then, wait until the journal is on the disk."""
        self._told = time.monotonic()
        with writing(self.path):
            if self._told - self._synced > _SYNC_SECONDS:
                self._journal.sync()
                self._synced = self._told
            manifest.write(self.path, self._described(), durable=False)


def _begin(path: Path, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Write the manifest that says what is being made, or take up an unfinished one."""
    made_by = manifest.provenance()
    found = manifest.read(path)
    if found is None or found["complete"] or _is_empty(journal_of(path)):
        # Of a complete one the files are gone, so it is begun anew.
        journal_of(path).unlink(missing_ok=True)
        found = manifest.begun(identity)
    if made_by not in found["made_by"]:
        found["made_by"].append(made_by)
    with writing(path):
        manifest.write(path, found)
    return found


def put_in_place(files: Sequence[WholeFile], always: Collection[Path]) -> dict[str, Any]:
    """The files whose place it is: those that hold something, and `always`; the others are not to be."""
    described = {}
    for file in files:
        if file.size or file.path in always:
            described[file.path.name] = file.place()
        else:
            file.discard()
    return described


def finish(path: Path, described: Mapping[str, Any], files: Mapping[str, Any]) -> None:
    """Say that an output is complete: the last word on it."""
    whole = {**described, "finished": manifest.now(), "files": files, "complete": True}
    manifest.write(path, whole)
    sync(path.parent)


# "running": another process, or this one, is writing it now.
State = Literal["complete", "running", "partial"]


@dataclass(frozen=True, kw_only=True)
class Listing:
    """One output of a run, or one trained model: its manifest, and how far it is."""

    name: str
    path: Path
    state: State
    manifest: Mapping[str, Any]


def unfinished(path: Path) -> State:
    """The state of what is not complete: whether anybody is at it."""
    return "partial" if holder_of(path) is None else "running"


def runs_in(folder: Path) -> list[Listing]:
    """Every output and every trained model (a folder with cai.json) in a run's folder, oldest first."""
    outputs = [(path.with_suffix(".jsonl"), path) for path in sorted(folder.glob("*.json"))]
    models = [(path.parent, path) for path in sorted(folder.glob("*/cai.json"))]
    listed: list[Listing] = []
    for path, described in outputs + models:
        found = manifest.load(described)
        if found is not None:
            state: State = "complete" if found.get("complete", True) else unfinished(path)
            listed.append(Listing(name=path.stem, path=path, state=state, manifest=found))
    return sorted(listed, key=lambda one: str(one.manifest.get("started", "")))
