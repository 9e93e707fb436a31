"""One thing that a user can get wrong, and what several of the tables need for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from recipes import CONSTITUTION


@dataclass(frozen=True, kw_only=True)
class Case:
    """A working directory, a command in it, and how it fails."""

    name: str
    command: str
    message: str
    code: int = 1
    files: Mapping[str, str | bytes] = field(default_factory=dict)


PROMPTS = '{"prompt": "How do I bake bread?"}\n'
# What every case may read.
FILES = {"prompts.jsonl": PROMPTS, "mine.toml": CONSTITUTION}
RECIPE = "runs/x/recipe.toml"
OUT = "-o runs/x/responses.jsonl"
