"""An output of a run: NAME.jsonl, NAME.rejects.jsonl and NAME.json, whole or resumable whatever kills the process."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class Listing:
    """One output of a run, or one trained model: its manifest, and how far it is."""

    name: str
    path: Path
    state: Literal["complete", "partial"]
    manifest: Mapping[str, Any] = field(default_factory=dict)


def is_complete(path: Path, identity: Mapping[str, Any]) -> bool:
    """Whether nothing is left to do for this output; `CaiError` when it was made under another identity."""
    raise NotImplementedError


def runs_in(folder: Path) -> list[Listing]:
    """Every output in a run's folder, in the order in which they were started."""
    raise NotImplementedError
