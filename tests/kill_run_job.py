"""Starts the command lines that test_kill_run kills."""

import os
from typing import Any

import torch
from forks import serve

from cai.cli import run
from cai.engines import local, scripted
from cai.objectives import dpo, sft

# Whatever a run imports is here already.
LOADED = (local, scripted, dpo, sft)


def work(job: dict[str, Any]) -> int:
    """One `cai run` in a folder of its own."""
    torch.set_num_threads(1)
    os.chdir(job["folder"])
    return run(["run", "runs/x/recipe.toml", "--quiet"])


if __name__ == "__main__":
    serve(work)
