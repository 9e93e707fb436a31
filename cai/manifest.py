"""NAME.json beside NAME.jsonl: what made it, whether it is whole, and what it cost."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def path_of(output: Path) -> Path:
    """runs/x/responses.jsonl -> runs/x/responses.json"""
    return output.with_suffix(".json")


def read(output: Path) -> dict[str, Any] | None:
    """The manifest of an output, or None when there is none."""
    raise NotImplementedError


def add(output: Path, **facts: Any) -> None:
    """Put further facts (an eval's `numbers`) into the manifest of a complete output."""
    raise NotImplementedError


def fingerprint(identity: Mapping[str, Any]) -> str:
    """The digest that stands for an output of this identity in the identity of what is made from it."""
    raise NotImplementedError


def fingerprint_of(path: Path) -> str:
    """The fingerprint of a file: by identity when cai made it and it is whole and unchanged, else by content."""
    raise NotImplementedError
