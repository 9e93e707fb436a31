"""Starts the command lines that test_kill_run kills."""

import os
from typing import Any

import torch
from forks import serve
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from cai.cli import run
from cai.engines import _session, local, scripted
from cai.objectives import dpo, sft
from cai.training import fit

# Whatever a run imports is here already.
LOADED = (_session, local, scripted, dpo, sft, fit, AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM)


def work(job: dict[str, Any]) -> int:
    """One `cai run` in a folder of its own."""
    torch.set_num_threads(1)
    os.chdir(job["folder"])
    return run(["run", "runs/x/recipe.toml", "--quiet"])


if __name__ == "__main__":
    serve(work)
