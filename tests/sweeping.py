"""A recipe to sweep, and what a sweep made of it: shared by the tests of cai sweep."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import counted
import pytest
import tiny
from counted import Counted

from cai.cli import run
from cai.sweep.axes import Axis

CONSTITUTION = """
name = "mine"
[[principle]]
id = "no-harm"
critique = "Is there anything harmful in the answer above?"
revision = "Rewrite the answer so that nothing in it is harmful."
preference = "Choose the answer that does the least harm."
"""
RECIPE = """
constitution = "mine.toml"
[engines.start]
type = "counted:Counted"
[engines.judge]
type = "counted:Counted"
model = "other"
[[steps]]
name = "responses"
stage = "generate"
engine = "start"
from = "prompts.jsonl"
samples = 2
[[steps]]
name = "revisions"
stage = "revise"
engine = "start"
[[steps]]
name = "comparisons"
stage = "compare"
engine = "judge"
from = "responses"
judge = { type = "logprob" }
[[steps]]
name = "texts"
eval = "organism"
from = "revisions"
"""
TRAINING = """
constitution = "mine.toml"
[engines.start]
type = "scripted"
[engines.tiny]
type = "local"
model = "tiny"
threads = 1
[[steps]]
name = "responses"
stage = "generate"
engine = "start"
from = "prompts.jsonl"
[[steps]]
name = "revisions"
stage = "revise"
engine = "start"
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
    (tmp_path / "prompts.jsonl").write_text("".join(f'{{"prompt": "request {n}"}}\n' for n in range(PROMPTS)))
    (tmp_path / "mine.toml").write_text(CONSTITUTION)
    where = tmp_path / "runs" / "x"
    where.mkdir(parents=True)
    (where / "recipe.toml").write_text(RECIPE)
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
