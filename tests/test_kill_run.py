"""A whole recipe, training included, killed with SIGKILL at random moments: it ends in the same files."""

import random
import shutil
import signal
import time
from pathlib import Path

import pytest
import tiny
from forks import nursery_of
from recipes import COMPARISONS, CRITIQUES, RESPONSES, REVISIONS, SCRIPTED, run_folder

KILLS = 25
RECIPE = f"""
constitution = "mine.toml"
{SCRIPTED}
[engines.tiny]
type = "local"
model = "tiny"
threads = 1
{RESPONSES}samples = 2
{CRITIQUES}{REVISIONS}{COMPARISONS}engine = "start"
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


def results(folder: Path) -> dict[str, bytes]:
    """Every row, every weight and every step of training."""
    names = ("*.jsonl", "*/*.safetensors", "*/metrics.jsonl")
    files = [path for name in names for path in (folder / "runs" / "x").glob(name)]
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(files)}


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_in_the_same_files(tmp_path: Path) -> None:
    template = tmp_path / "template"
    run_folder(template, RECIPE, 12)
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
