"""Where the steps of a sweep are made: equal ones once, in a folder named after all that decides them.

runs/s/steps/revisions-1a2b3c4d5e6f/revisions.jsonl

The name is a digest of the step's own keys, of its engine, and of the names of the steps that it reads from
or whose model it runs, so it is known before anything is made, and a step is found again whatever other keys
are swept, in whatever order.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cai import manifest
from cai.config import plain
from cai.records import digest
from cai.steps import Step

# Digits of a digest in a folder's name: no two of a million steps have them in common.
NAMED = 12


@dataclass(kw_only=True)
class Places:
    """The steps of several runs. `steps` are those to make, each once, after all that it needs."""

    folder: Path
    _steps: dict[str, Step] = field(default_factory=dict)
    _keys: dict[str, str] = field(default_factory=dict)
    _files: dict[Path, str] = field(default_factory=dict)
    _engines: list[tuple[Any, Any]] = field(default_factory=list)

    @property
    def steps(self) -> tuple[Step, ...]:
        return tuple(self._steps.values())

    def add(self, steps: Sequence[Step]) -> tuple[Step, ...]:
        """The steps of one run, in order, each put in its place, as it was put before if an equal one was."""
        moves: dict[str, Path] = {}
        run = []
        for step in steps:
            put = _moved(step, moves)
            key = digest("step", self._described(put))
            place = self.folder / f"{step.name}-{key[:NAMED]}" / step.output.name
            moves[str(step.output)] = place
            self._keys[str(place)] = key
            run.append(self._steps.setdefault(key, dataclasses.replace(put, output=place)))
        return tuple(run)

    def needs(self, step: Step) -> set[Path]:
        """What of the steps' outputs a step reads or runs."""
        return {Path(path) for path in _paths(step) if path in self._keys} - {step.output}

    def _described(self, step: Step) -> dict[str, Any]:
        """Everything that decides what a step makes, as plain JSON."""
        found = {
            one.name: self._plain(getattr(step, one.name))
            for one in dataclasses.fields(step)
            if one.name not in ("inputs", "output")
        }
        return {**found, "inputs": [self._keys.get(str(path)) or self._content(path) for path in step.inputs]}

    def _plain(self, value: Any) -> Any:
        """A value as in an identity; but a model that a step makes is the step's key: it may not be there."""
        if isinstance(value, str | Path):
            return self._keys.get(str(value), str(value))
        if not any(path in self._keys for path in _paths(value)):
            return self._identity(value)
        if isinstance(value, tuple):
            return [self._plain(item) for item in value]
        if isinstance(value, Mapping):
            return {str(key): self._plain(item) for key, item in value.items()}
        own = [one for one in dataclasses.fields(value) if one.metadata.get("identity", True)]
        return {
            "type": type(value).__name__,
            **{one.name: self._plain(getattr(value, one.name)) for one in own},
        }

    def _identity(self, value: Any) -> Any:
        if not callable(getattr(value, "identity", None)):
            return plain(value)
        # An engine's holds the digest of its weights, which takes its time.
        for known, found in self._engines:
            if known == value:
                return found
        self._engines.append((value, plain(value)))
        return self._engines[-1][1]

    def _content(self, path: Path) -> str:
        if path not in self._files:
            self._files[path] = manifest.fingerprint_of(path)
        return self._files[path]


def _moved(value: Any, moves: Mapping[str, Path]) -> Any:
    """`value` with every path that is to be another one replaced, in whatever it holds."""
    if isinstance(value, str | Path):
        return type(value)(moves[str(value)]) if str(value) in moves else value
    if isinstance(value, tuple):
        moved = tuple(_moved(item, moves) for item in value)
        return value if all(new is old for new, old in zip(moved, value, strict=True)) else moved
    if isinstance(value, dict):
        items = _moved(tuple(value.values()), moves)
        return value if items == tuple(value.values()) else dict(zip(value, items, strict=True))
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    fields = {one.name: getattr(value, one.name) for one in dataclasses.fields(value) if one.init}
    changes = {name: new for name, old in fields.items() if (new := _moved(old, moves)) is not old}
    return dataclasses.replace(value, **changes) if changes else value


def _paths(value: Any) -> Iterator[str]:
    """Every text and path in a value, in whatever it holds."""
    if isinstance(value, str | Path):
        yield str(value)
    elif isinstance(value, tuple):
        for item in value:
            yield from _paths(item)
    elif isinstance(value, dict):
        yield from _paths(tuple(value.values()))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from _paths(tuple(getattr(value, one.name) for one in dataclasses.fields(value) if one.init))
