"""Files that are in their place whole or not at all."""

import os
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any


class WholeFile:
    """A file under a temporary name, until it is whole. `size` is in bytes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._digest = blake2b(digest_size=16)
        self._temporary = path.with_name(f".{path.name}.tmp")
        self._file = self._temporary.open("wb")

    def __enter__(self) -> "WholeFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._temporary.unlink(missing_ok=True)

    def add(self, lines: Sequence[bytes]) -> None:
        """Write lines, given without their ends."""
        if not lines:
            return
        text = b"".join([line + b"\n" for line in lines])
        self._file.write(text)
        self._digest.update(text)
        self.size += len(text)

    def place(self) -> dict[str, Any]:
        """Put it in its place, on the disk; returns its size and digest."""
        self._file.flush()
        os.fsync(self._file.fileno())
        os.replace(self._temporary, self.path)
        return {"bytes": self.size, "digest": self._digest.hexdigest()}

    def discard(self) -> None:
        """There is to be no such file."""
        self._temporary.unlink()
        self.path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file, or what was renamed in a folder, is so on the disk too."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
