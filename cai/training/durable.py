"""Files that are whole or not there: written under another name, flushed to the disk, then renamed."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from cai.whole_file import sync


def write_file(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in the place of `path` at once."""
    temporary = path.with_name(f".{path.name}.tmp")
    write(temporary)
    sync(temporary)
    os.replace(temporary, path)
    sync(path.parent)


def write_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary folder beside `folder`, then rename it. `folder` must not exist."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    write(temporary)
    readable = temporary.stat().st_mode & 0o666
    for path in temporary.rglob("*"):
        if path.is_file():
            # safetensors makes files that only their owner may read, whatever the umask says.
            path.chmod(readable)
        sync(path)
    sync(temporary)
    os.rename(temporary, folder)
    sync(folder.parent)
