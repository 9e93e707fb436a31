"""The right to write an output: held by one process at a time, and ended by the kernel when that dies."""

import fcntl
import os
import sys
from contextlib import suppress
from pathlib import Path
from struct import pack, unpack
from typing import ClassVar

from cai.errors import CaiError


def lock_of(path: Path) -> Path:
    """The file that is locked for an output; it is there while somebody writes, or was killed writing."""
    return path.with_name(f".{path.name}.lock").absolute()


class Claim:
    """Taking it raises `CaiError` with the holder's process id when another process has it."""

    _held: ClassVar[set[Path]] = set()

    def __init__(self, path: Path) -> None:
        self._path = lock_of(path)
        if self._path in self._held:
            raise RuntimeError(f"{path} is being written by this process already")
        self._handle = self._take(path)
        self._held.add(self._path)

    def _take(self, path: Path) -> int:
        while True:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                # A POSIX lock, because a child that the engine forks must not hold it beyond our death.
                fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError) as error:
                pid = os.read(handle, 20).decode() or "unknown"
                os.close(handle)
                busy = f"{path} is being written by another process (pid {pid})"
                raise CaiError(busy, next="wait until it is done, or stop it") from error
            # The last holder may have removed the file between our opening and locking it.
            with suppress(FileNotFoundError):
                if os.stat(self._path).st_ino == os.fstat(handle).st_ino:
                    os.ftruncate(handle, 0)
                    os.write(handle, str(os.getpid()).encode())
                    return handle
            os.close(handle)

    def release(self) -> None:
        self._path.unlink(missing_ok=True)
        os.close(self._handle)
        self._held.discard(self._path)


def holder_of(path: Path) -> int | None:
    """The id of the process that is writing an output, or None. Asking takes nothing from anybody."""
    lock = lock_of(path)
    if lock in Claim._held:
        # Closing any handle of the file would end our own lock.
        return os.getpid()
    try:
        handle = os.open(lock, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        found = fcntl.fcntl(handle, fcntl.F_GETLK, _asked_lock())
    finally:
        os.close(handle)
    kind, pid = _read_lock(found)
    return None if kind == fcntl.F_UNLCK else pid


def _asked_lock() -> bytes:
    """A struct flock that asks for the whole file, as Linux or macOS has it."""
    if sys.platform == "darwin":
        return pack("qqihh", 0, 0, 0, fcntl.F_WRLCK, os.SEEK_SET)
    return pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)


def _read_lock(found: bytes) -> tuple[int, int]:
    """The kind of lock in the way, and who has it."""
    if sys.platform == "darwin":
        _, _, pid, kind, _ = unpack("qqihh", found)
    else:
        kind, _, _, _, pid = unpack("hhqqi", found)
    return kind, pid
