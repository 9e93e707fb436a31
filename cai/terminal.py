"""What goes to a terminal. Text that a model wrote is made harmless first."""

import re
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

# All but newline and tab of C0, DEL and C1 (escape sequences), the line and paragraph separators, and the
# marks that override the direction of writing: with them a text can rewrite what stands above it, or read
# otherwise than it is.
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def sanitise(text: str) -> str:
    """The text with every control character spelled out, \\x1b for ESC, so that none of them acts."""
    return CONTROLS.sub(lambda match: _spelled(ord(match.group())), text)


def _spelled(code: int) -> str:
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def console(stderr: bool = False) -> "Console":
    """A rich console that takes every text literally: no markup, no emoji codes, no guesses at numbers."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 120
    return Console(
        file=stream, markup=False, emoji=False, highlight=False, soft_wrap=not stream.isatty(), width=width
    )
