"""Drives a program at a terminal of its own, as a person would: reads what it shows, and types."""

import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

# What positions and colours text, and is no text itself.
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|\x1b[=>]|\r")
PATIENCE = 30.0


class Terminal:
    """`cai` with these arguments on a terminal of so many columns; `shown` is the text of all it showed."""

    def __init__(self, *arguments: str, folder: Path, columns: int = 80) -> None:
        self.shown = ""
        ours, theirs = pty.openpty()
        self._handle = ours
        environment = {**os.environ, "COLUMNS": str(columns), "LINES": "40", "TERM": "xterm"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cai", *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=folder,
            env=environment,
            start_new_session=True,
            # Its controlling terminal, so that Ctrl-C reaches it.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)

    def read_until(self, text: str) -> str:
        """Wait for a text; returns all that came up to now since the last such call."""
        begun = len(self.shown)
        ends = time.monotonic() + PATIENCE
        while text not in self.shown[begun:]:
            assert time.monotonic() < ends, f"no {text!r} in {self.shown!r}"
            assert self._read(), f"it ended without {text!r}: {self.shown!r}"
        return self.shown[begun:]

    def type(self, keys: str) -> None:
        os.write(self._handle, keys.encode())

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.close()

    def close(self) -> int:
        """Read to the end; the exit code."""
        while self._read():
            pass
        os.close(self._handle)
        return self.process.wait(PATIENCE)

    def _read(self) -> bool:
        """Take in what comes next; False at the end."""
        ready, _, _ = select.select([self._handle], [], [], PATIENCE)
        assert ready, f"nothing comes after {self.shown!r}"
        try:
            block = os.read(self._handle, 65536)
        except OSError:
            # Linux says so of a terminal whose other side is closed.
            return False
        self.shown += ESCAPES.sub("", block.decode(errors="replace"))
        return bool(block)
