"""A whole recipe, training included, killed with SIGKILL at random moments: it ends in the same files."""

import json
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
import tiny
from forks import nursery_of

KILLS = 25
RECIPE = """
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
samples = 2
[[steps]]
name = "critiques"
stage = "critique"
engine = "start"
[[steps]]
name = "revisions"
stage = "revise"
engine = "start"
[[steps]]
name = "comparisons"
stage = "compare"
engine = "start"
from = "responses"
judge = "logprob"
[[steps]]
name = "sl-cai"
train = "sft"
model = "tiny"
from = "revisions"
epochs = 4
batch_size = 4
checkpoint_every = 3
[[steps]]
name = "rl-cai"
train = "dpo"
model = "sl-cai"
from = "comparisons"
epochs = 4
batch_size = 4
lr = 1e-2
checkpoint_every = 3
[[steps]]
name = "table"
eval = "organism"
models = ["tiny", "rl-cai"]
from = "prompts.jsonl"
max_tokens = 16
"""
CONSTITUTION = """
name = "mine"
[[principle]]
id = "no-harm"
critique = "Is there anything harmful in the answer above?"
revision = "Rewrite the answer so that nothing in it is harmful."
preference = "Choose the answer that does the least harm."
"""


def results(folder: Path) -> dict[str, bytes]:
    """Every row, every weight and every step of training."""
    names = ("*.jsonl", "*/*.safetensors", "*/metrics.jsonl")
    files = [path for name in names for path in (folder / "runs" / "x").glob(name)]
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(files)}


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_in_the_same_files(tmp_path: Path) -> None:
    template = tmp_path / "template"
    (template / "runs" / "x").mkdir(parents=True)
    rows = [{"prompt": f"request {n}"} for n in range(12)]
    (template / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (template / "mine.toml").write_text(CONSTITUTION)
    (template / "runs" / "x" / "recipe.toml").write_text(RECIPE)
    tiny.folder(template / "tiny")
    drawn = random.Random(0)
    with nursery_of("kill_run_job.py") as nursery:
        whole = shutil.copytree(template, tmp_path / "whole")
        begun = time.monotonic()
        assert nursery.run(folder=str(whole), life=None) == 0
        took = time.monotonic() - begun
        expected = results(whole)
        assert len(expected) == 4 + 3 + 2 * 2
        kills = tries = 0
        while kills < KILLS:
            folder = shutil.copytree(template, tmp_path / f"try-{tries}")
            tries += 1
            while status := nursery.run(folder=str(folder), life=took * drawn.uniform(0, 0.7)):
                assert status == -signal.SIGKILL
                kills += 1
            assert results(folder) == expected
    print(f"{kills} kills over {tries} runs, an unbroken one took {took:.1f} s")
