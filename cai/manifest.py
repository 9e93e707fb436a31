"""NAME.json beside NAME.jsonl: what made it, whether it is whole, and what it cost.

The identity is everything that decides the rows, as plain JSON: the stage's fields, the constitution's
principles, the engine, the fingerprints of the inputs. The rest says where a run came from and what it took,
and may differ between two runs that end in the same rows.
"""

import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

from cai.errors import CaiError
from cai.records import digest
from cai.shards import Shard

# What a result may depend on besides our own code.
_LIBRARIES = ("torch", "transformers", "tokenizers", "safetensors", "peft", "vllm", "openai")


def path_of(output: Path) -> Path:
    """runs/x/responses.jsonl -> runs/x/responses.json"""
    return output.with_suffix(".json")


def rejects_of(output: Path) -> Path:
    """runs/x/responses.jsonl -> runs/x/responses.rejects.jsonl"""
    return output.with_suffix(".rejects.jsonl")


def read(output: Path) -> dict[str, Any] | None:
    """The manifest of an output, or None when there is none."""
    path = path_of(output)
    if not path.exists():
        return None
    found = load(path)
    if found is None:
        next_step = "move it away, or give another output"
        raise CaiError("this is no manifest of cai's", where=str(path), next=next_step)
    return found


def load(path: Path) -> dict[str, Any] | None:
    """The manifest in a file, or None when the file is something else or not there."""
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    ours = isinstance(found, dict) and "identity" in found
    return found if ours else None


def write(output: Path, manifest: Mapping[str, Any], *, durable: bool = True) -> None:
    """Put a manifest in the place of the old one at once; `durable` waits until it is on the disk."""
    path = path_of(output)
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(manifest, file, ensure_ascii=False, indent=2)
        file.write("\n")
        file.flush()
        if durable:
            os.fsync(file.fileno())
    os.replace(temporary, path)


def begun(identity: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest of an output of which nothing is made yet."""
    return {
        "complete": False,
        "fingerprint": fingerprint(identity),
        "identity": plain(identity),
        "made_by": [],
        "started": now(),
        "finished": None,
        "seconds": 0.0,
        "tokens_per_second": None,
        "counts": {"items": 0, "rows": 0, "rejects": {}},
        "tokens": {"prompt": 0, "cached": 0, "generated": 0},
        "files": {},
    }


def speed(generated: int, seconds: float) -> float | None:
    """Tokens generated per second; None where none were."""
    return round(generated / seconds, 1) if generated and seconds else None


def add(output: Path, **facts: Any) -> None:
    """Put further facts (an eval's `numbers`) into the manifest of a complete output."""
    manifest = read(output)
    if manifest is None or not manifest["complete"]:
        raise RuntimeError(f"{output} is not complete")
    write(output, {**manifest, **facts})


def plain(identity: Mapping[str, Any]) -> dict[str, Any]:
    """An identity as it reads back from a manifest (lists for tuples), so that the two can be compared."""
    back: dict[str, Any] = json.loads(json.dumps(identity))
    return back


def fingerprint(identity: Mapping[str, Any]) -> str:
    """The digest that stands for an output of this identity in the identity of what is made from it."""
    return digest("output", plain(identity))


def whole(identity: Mapping[str, Any]) -> dict[str, Any]:
    """The identity of what a shard is a shard of."""
    return {key: value for key, value in identity.items() if key != "shard"}


def fingerprint_of(path: Path, shard: Shard | None = None) -> str:
    """The fingerprint of a file: by identity if cai made it, whole and unchanged, else by content.

    What is made of a shard is the same shard of what is made of the whole, so for a step that works on
    `shard` the file of that shard has the fingerprint of the whole. Raises `CaiError` for another shard's.
    """
    if not path.is_file():
        raise CaiError("there is no such file", where=str(path), next="give the path of a .jsonl file")
    content = digest_of(path)
    manifest = load(path_of(path))
    if manifest and manifest.get("files", {}).get(path.name, {}).get("digest") == content:
        identity = manifest["identity"]
        if shard is None:
            return fingerprint(identity)
        if (found := identity.get("shard", [*shard])) != [*shard]:
            other = f"this is shard {Shard(*found)}, not {shard}"
            raise CaiError(other, where=str(path), next="give the file's name without the shard in it")
        return fingerprint(whole(identity))
    return digest("content", content)


def digest_of(path: Path) -> str:
    """128 bits of BLAKE2b over a file's content."""
    hashed = blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            hashed.update(block)
    return hashed.hexdigest()


@cache
def provenance() -> dict[str, Any]:
    """The code at work: version, commit of the working folder's repository, Python and library versions."""
    commit = _git("rev-parse", "HEAD")
    changes = None if commit is None else _git("status", "--porcelain")
    return {
        "cai": importlib.metadata.version("cai"),
        "commit": commit,
        "dirty": None if changes is None else bool(changes),
        "python": platform.python_version(),
        "libraries": dict(_versions()),
    }


def now() -> str:
    """As fine as it gets: the outputs of a chain are begun within a second, and their order tells theirs."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _versions() -> Iterator[tuple[str, str]]:
    for name in _LIBRARIES:
        try:
            yield name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """What changed between two identities: "another constitution (principle 'no-weapons' changed)"."""
    changes = list(_changes(old, new, ()))
    what = sorted({_noun(path) for path, _, _ in changes})
    # A principle that came or went takes its weight along.
    details = [
        _detail(path, before, after)
        for path, before, after in changes
        if not ("weights" in path[:-1] and _ABSENT in (before, after))
    ]
    if len(details) > 4:
        details[3:] = [f"and {len(details) - 3} more"]
    return f"{' and '.join(what)} ({', '.join(details)})"


_ABSENT = object()


def _changes(old: Any, new: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """The leaves that differ, with the keys that lead there."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from _changes(old.get(key, _ABSENT), new.get(key, _ABSENT), (*path, key))
    elif old != new:
        yield path, old, new


def _noun(path: tuple[str, ...]) -> str:
    if "constitution" in path:
        return "another constitution"
    nouns = {"engine": "another engine", "inputs": "other inputs"}
    return nouns.get(path[0], "other settings")


def _detail(path: tuple[str, ...], old: Any, new: Any) -> str:
    if "constitution" in path and len(path) > path.index("constitution") + 1:
        table, *id = path[path.index("constitution") + 1 :]
        name = f"principle '{' '.join(id)}'"
        return _change(name if table == "principles" else f"weight of {name}", old, new)
    return _change(" ".join(path), old, new)


def _change(name: str, old: Any, new: Any) -> str:
    if old is _ABSENT:
        return f"{name} added"
    if new is _ABSENT:
        return f"{name} taken out"
    if _is_plain(old) and _is_plain(new):
        return f"{name}: {_shown(old)} -> {_shown(new)}"
    return f"{name} changed"


def _is_plain(value: Any) -> bool:
    """Whether a reader learns something by seeing the value: no digest, list or table."""
    if isinstance(value, str):
        return len(value) <= 60 and not (len(value) >= 16 and set(value) <= set("0123456789abcdef"))
    return value is None or isinstance(value, bool | int | float)


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
