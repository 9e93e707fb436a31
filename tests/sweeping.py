"""A recipe to sweep, and what a sweep made of it: shared by the tests of cai sweep."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import counted
import pytest
import tiny
from counted import Counted
from recipes import COMPARISONS, RESPONSES, REVISIONS, run_folder

from cai.cli import run
from cai.sweep.axes import Axis

# A table, so that an axis can go into it.
JUDGED = COMPARISONS.replace('"logprob"', '{ type = "logprob" }')
RECIPE = f"""
constitution = "mine.toml"
[engines.start]
type = "counted:Counted"
[engines.judge]
type = "counted:Counted"
model = "other"
{RESPONSES}samples = 2
{REVISIONS}{JUDGED}engine = "judge"
[[steps]]
name = "texts"
eval = "organism"
from = "revisions"
"""
TRAINING = f"""
constitution = "mine.toml"
[engines.start]
type = "scripted"
[engines.tiny]
type = "local"
model = "tiny"
threads = 1
{RESPONSES}{REVISIONS}
[[steps]]
name = "sl-cai"
train = "sft"
model = "tiny"
epochs = 2
batch_size = 4
[[steps]]
name = "table"
eval = "organism"
models = ["tiny", "sl-cai"]
from = "prompts.jsonl"
max_tokens = 8
"""
PROMPTS = 5
ROUNDS = "steps.revisions.rounds=1,2"


def recipe_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of RECIPE, runs/x, in a working directory that has all the recipe needs."""
    monkeypatch.chdir(tmp_path)
    where = run_folder(tmp_path, RECIPE, PROMPTS)
    counted.reset()
    yield where
    assert Counted.open_now == []


def go(*options: str, to: str = "runs/s", quiet: bool = True) -> int:
    """Sweep the recipe, with the counts begun anew."""
    counted.reset(Counted.stop_after)
    return run(["sweep", "runs/x/recipe.toml", "-o", to, *options, *(["--quiet"] if quiet else [])])


def made(to: str = "runs/s") -> dict[str, bytes]:
    """Every row, weight and step of training, by path."""
    kinds = (".jsonl", ".safetensors")
    files = [path for path in Path(to, "steps").rglob("*") if path.suffix in kinds and path.stem != "timing"]
    return {str(path.relative_to(to)): path.read_bytes() for path in sorted(files)}


def training(folder: Path) -> None:
    """Put TRAINING in the recipe's place."""
    (folder / "recipe.toml").write_text(TRAINING)
    tiny.folder(Path("tiny"))


def axis(key: str, *values: Any) -> Axis:
    return Axis(key=key, values=values)
