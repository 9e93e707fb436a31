"""Single keys from the terminal, without a line's end and without an echo."""

import os
import select
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager

END_OF_INPUT, ESCAPE = b"\x04", b"\x1b"


@contextmanager
def keys() -> Iterator[Callable[[], str]]:
    """Inside, a function that waits for a key; what is typed ahead is not lost.

    Ctrl-C is a `KeyboardInterrupt` as ever, Ctrl-D and a terminal that goes away are an `EOFError`. A key
    that sends several characters (an arrow) is one key, and none of its characters.
    """
    handle = sys.stdin.fileno()
    before = termios.tcgetattr(handle)
    # Not flushed: the first key may come before the program is ready for it.
    tty.setcbreak(handle, termios.TCSANOW)
    try:
        yield lambda: _key(handle)
    finally:
        termios.tcsetattr(handle, termios.TCSANOW, before)


def _key(handle: int) -> str:
    typed = os.read(handle, 1)
    if typed in (b"", END_OF_INPUT):
        raise EOFError
    if typed == ESCAPE:
        while select.select([handle], [], [], 0)[0]:
            typed += os.read(handle, 1)
    return typed.decode("ascii", "replace")
