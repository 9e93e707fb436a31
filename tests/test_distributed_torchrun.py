"""`torchrun -m cai ...` and `cai train --nproc` as a user starts them; nothing outlives what started it."""

import os
import subprocess
import sys
import time
from pathlib import Path

import bandits
import pytest
import tiny
import torch
from driving import answered
from test_objectives_family import comparisons
from transformers import AutoModelForCausalLM

from cai.encoding import encode

TORCHRUN = [
    sys.executable,
    "-m",
    "torch.distributed.run",
    "--standalone",
    "--nproc-per-node",
    "2",
    "-m",
    "cai",
]
ALONE = [sys.executable, "-m", "cai"]
SFT = ["train", "sft", "records.jsonl", "--model", "./tiny", "--batch-size", "4", "--lr", "1e-2"]

RECIPE = """
[[steps]]
name = "sl"
train = "sft"
model = "./tiny"
from = "records.jsonl"
epochs = 2
batch_size = 4
lr = 1e-2
[[steps]]
name = "answers"
stage = "generate"
engine = "sl"
from = "prompts.jsonl"
max_tokens = 4
[[steps]]
name = "rl"
train = "dpo"
model = "sl"
from = "comparisons.jsonl"
epochs = 2
batch_size = 4
lr = 1e-2
"""


@pytest.fixture
def here(tmp_path):
    """A folder with a model, records to learn, comparisons and a recipe."""
    tiny.folder(tmp_path / "tiny")
    records = [answered("yes" * (1 + at % 5), request=f"say {at}") for at in range(11)]
    (tmp_path / "records.jsonl").write_bytes(b"".join(encode(row) + b"\n" for row in records))
    (tmp_path / "comparisons.jsonl").write_bytes(b"".join(encode(row) + b"\n" for row in comparisons(9)))
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "say yes"}\n')
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return tmp_path


def call(here, *words, status=0):
    """What a command says, of which `status` is the exit code."""
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(words, cwd=here, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == status, done.stderr
    return done.stderr


def assert_same_model(one, other):
    first, second = (AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in (one, other))
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=1e-4, atol=1e-4, msg=name)


@pytest.mark.slow
def test_train_alone_in_parts_and_under_torchrun(here):
    call(here, *ALONE, *SFT, "-o", "one")
    call(here, *ALONE, *SFT, "-o", "parts", "--nproc", "2")
    said = call(here, *TORCHRUN, *SFT, "-o", "torchrun")
    for name in ("parts", "torchrun"):
        assert_same_model(here / "one", here / name)
        assert not (here / f"{name}.training").exists()
    # One of the two speaks.
    assert said.count("torchrun: ") == 1
    # How it is executed is not what it is: given again with other processes, it is done before.
    assert "done before" in call(here, *ALONE, *SFT, "-o", "one", "--nproc", "2")


@pytest.mark.slow
def test_a_whole_recipe_under_torchrun(here):
    call(here, *TORCHRUN, "run", "recipe.toml", "-o", "several")
    call(here, *ALONE, "run", "recipe.toml", "-o", "one")
    for name in ("sl", "rl"):
        assert_same_model(here / "one" / name, here / "several" / name)
    assert len((here / "several" / "answers.jsonl").read_text().splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ppo", "grpo"])
def test_rollouts_under_torchrun(here, kind):
    bandits.reward_file(here, "return sum(letter.isalpha() for letter in answer) / 4")
    words = ["train", kind, "prompts.jsonl", "--model", "./tiny", "--reward", "mine.py:score", "--lr", "1e-3"]
    for size in ("rollout=3", "samples=2", "max_tokens=4", "steps=4", "batch_size=3"):
        words += ["--set", size]
    call(here, *ALONE, *words, "-o", "one")
    call(here, *TORCHRUN, *words, "-o", "torchrun")
    assert_same_model(here / "one", here / "torchrun")
    assert len((here / "torchrun" / "samples.jsonl").read_text().splitlines()) == 6


@pytest.mark.slow
def test_errors_under_torchrun(here):
    said = call(here, *TORCHRUN, *SFT, "-o", "x", "--set", "nproc=3", status=1)
    assert said.count("error: torchrun has started 2 processes; leave nproc and processes out\n") == 1
    said = call(here, *TORCHRUN, *SFT, "-o", "tiny", status=1)
    assert (
        said.count("error: tiny: there is something here that cai did not train; choose another name\n") == 1
    )
    assert not (here / "x").exists()


def children(pid):
    """All processes below one."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == pid:
            found += [int(path.parent.name), *children(int(path.parent.name))]
    return found


def is_running(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.slow
@pytest.mark.parametrize("words", [[*ALONE, *SFT, "--nproc", "2"], [*TORCHRUN, *SFT]])
def test_nothing_outlives_a_parent_that_is_killed(here, words):
    command = [*words, "-o", "long", "--steps", "100000", "--checkpoint-every", "5"]
    log = here / "long.training" / "metrics.jsonl"
    with subprocess.Popen(command, cwd=here, stderr=subprocess.DEVNULL) as parent:
        below = []
        try:
            while not (log.is_file() and log.read_bytes().count(b"\n") > 10):
                assert parent.poll() is None
                time.sleep(0.1)
            below = children(parent.pid)
            assert len(below) >= 2
        finally:
            parent.kill()
    deadline = time.monotonic() + 20
    while any(map(is_running, below)):
        assert time.monotonic() < deadline, [pid for pid in below if is_running(pid)]
        time.sleep(0.1)
