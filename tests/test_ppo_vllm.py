"""PPO whose rollouts come from vLLM: the live policy's weights are put in place before each."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests import tiny

pytest.importorskip("vllm", reason="vLLM is not installed")

import bandits
from test_ppo import SETTINGS, ppo

from cai.chat import load_tokenizer
from cai.training.distributed import ALONE
from cai.training.loop import train
from cai.training.value import PolicyAndValue

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("ignore")]

WIDTH = 64  # vLLM on a CPU wants heads of 32 dimensions


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tiny.folder(tmp_path_factory.mktemp("tiny") / "model", width=WIDTH)


def made(folder: Path, place: Path, **keys):
    """An objective that rolls out by vLLM, the model of the folder, and its data."""
    engine = {"type": "vllm", "model": str(folder), "dtype": "float32", "cache": 0.05, "threads": 1}
    objective = ppo(place, engine={**engine, "memory": 0.3}, **keys)
    model = PolicyAndValue(tiny.model(width=WIDTH))
    sources, _ = objective.sources(bandits.prompts(6))
    return objective, model, objective.prepare(sources, load_tokenizer(folder), 128)


def test_answers_are_the_live_policys(folder: Path, tmp_path: Path) -> None:
    # So cold that it is greedy.
    objective, model, rows = made(folder, tmp_path, temperature=1e-4, max_tokens=8)
    data = objective.setup(model, rows, tmp_path, ALONE)
    asked = [one for each in objective._asked(data, 0, 0) for one in each]

    def texts(session) -> list[tuple[int, ...]]:
        answers = objective._answer(model.policy, replace(data, session=session), asked, 0)
        return [answer.tokens for answer in answers]

    try:
        start = texts(data.session)
        assert start == texts(None)
        torch.manual_seed(5)
        with torch.no_grad():
            for weight in model.policy.parameters():
                weight.add_(torch.randn_like(weight) * 0.1)
        moved = texts(data.session)
        assert moved == texts(None) and moved != start
    finally:
        data.session.close()


def test_a_training_goes_through(folder: Path, tmp_path: Path) -> None:
    objective, model, data = made(folder, tmp_path)
    train(objective, model, data, replace(SETTINGS, steps=6), tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["rollout"] for row in rows] == [0, 0, 0, 0, 1, 1]
    # Log-probabilities are the trainer's own, whoever sampled: a fresh rollout has not moved.
    assert all(abs(rows[at]["approx_kl"]) < 1e-6 for at in (0, 4))
    assert rows[4]["kl"] != 0
