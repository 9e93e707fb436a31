"""PPO and GRPO as a user types them: from the command line, and in a recipe with the reward model's step."""

import json
from pathlib import Path

import bandits
import pytest
import tiny
from transformers import AutoModelForCausalLM

from cai.cli import run
from cai.encoding import encode
from cai.execute import plan
from cai.recipe import load
from cai.records import Annotation, Candidate, Comparison, user

RECIPE = """
[[steps]]
name = "rm"
train = "reward"
model = "./tiny"
from = "comparisons.jsonl"
steps = 2
batch_size = 4
[[steps]]
name = "ppo"
train = "ppo"
model = "./tiny"
reward = "rm"
critic = "reward"
from = "prompts.jsonl"
rollout = 4
max_tokens = 4
reuse = 2
steps = 4
batch_size = 2
checkpoint_every = 1
"""


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A folder with a model, requests, comparisons and a reward function."""
    monkeypatch.chdir(tmp_path)
    tiny.folder(tmp_path / "tiny")
    bandits.reward_file(tmp_path, "return len(set(answer)) / 4")
    rows = [{"prompt": f"request {at}"} for at in range(6)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    compared = [comparison(at) for at in range(6)]
    (tmp_path / "comparisons.jsonl").write_bytes(b"".join(encode(row) + b"\n" for row in compared))
    (tmp_path / "runs" / "x").mkdir(parents=True)
    (tmp_path / "runs" / "x" / "recipe.toml").write_text(RECIPE)
    return tmp_path


def comparison(at):
    return Comparison(
        id=f"c{at}",
        prompt_id=f"p{at}",
        prompt=(user(f"request {at}"),),
        candidates=(Candidate(text="yes" * (1 + at)), Candidate(text="no")),
        annotations=(Annotation(annotator="x", probabilities=(0.8, 0.2)),),
        probabilities=(0.8, 0.2),
    )


@pytest.mark.parametrize("kind", ["ppo", "grpo", "rloo"])
def test_the_command(here, kind, capsys):
    sizes = ["--set", "rollout=2", "--set", "samples=2", "--set", "max_tokens=4", "--batch-size", "4"]
    command = ["train", kind, "prompts.jsonl", "--model", "./tiny", "--reward", "mine.py:score", "-o", "out"]
    assert run([*command, *sizes, "--steps", "3", "--lr", "1e-3"]) == 0
    assert "out: trained on answers to 6 prompts, 3 steps" in capsys.readouterr().err
    AutoModelForCausalLM.from_pretrained("out")
    assert {path.name for path in Path("out").iterdir()} >= {"metrics.jsonl", "samples.jsonl", "cai.json"}
    assert not Path("out.training").exists()
    made = json.loads(Path("out/cai.json").read_text())["identity"]["objective"]
    assert made["kind"] == kind and made["reward"]["function"] == "mine.py:score"
    assert run([*command, *sizes, "--steps", "3", "--lr", "1e-3"]) == 0
    assert "done before" in capsys.readouterr().err


def test_a_recipe_names_the_reward_models_step(here, capsys):
    recipe = load(here / "runs" / "x")
    assert recipe.steps[1].objective.needs == {here / "runs" / "x" / "rm"}
    assert plan(recipe.steps) == {"rm": "to do", "ppo": "waits"}
    assert run(["run", "runs/x", "--quiet"]) == 0
    rows = [json.loads(line) for line in Path("runs/x/ppo/metrics.jsonl").read_text().splitlines()]
    assert [row["rollout"] for row in rows] == [0, 0, 0, 0]
    samples = [json.loads(line) for line in Path("runs/x/ppo/samples.jsonl").read_text().splitlines()]
    assert [row["turns"][0]["model"] for row in samples] == ["ppo"] * 4
    before = Path("runs/x/ppo/model.safetensors").read_bytes()
    assert run(["run", "runs/x", "--redo", "rm", "--quiet"]) == 0
    assert Path("runs/x/ppo/model.safetensors").read_bytes() == before


def test_what_a_kill_left_beside_a_finished_model_goes(here):
    """Killed after the model was put in place, before its work was cleared away."""
    assert run(["run", "runs/x", "--quiet"]) == 0
    left = Path("runs/x/rm.training")
    left.mkdir()
    (left / "metrics.jsonl").write_text("{}\n")
    before = Path("runs/x/rm/model.safetensors").read_bytes()
    assert run(["run", "runs/x", "--quiet"]) == 0
    assert not left.exists()
    assert Path("runs/x/rm/model.safetensors").read_bytes() == before


HACKING = """
[[steps]]
name = "hacking"
eval = "proxy"
truth = "organism"
from = "ppo"
stretches = 2
"""


def test_an_eval_reads_what_a_training_sampled(here):
    recipe = here / "runs" / "x" / "recipe.toml"
    recipe.write_text(RECIPE + HACKING)
    assert plan(load(recipe).steps) == {"rm": "to do", "ppo": "waits", "hacking": "waits"}
    assert run(["run", "runs/x", "--quiet"]) == 0
    assert plan(load(recipe).steps) == {"rm": "done", "ppo": "done", "hacking": "done"}
    numbers = json.loads(Path("runs/x/hacking.json").read_text())["numbers"]
    assert {one["name"]: one["n"] for one in numbers if not one["group"]}["proxy reward"] == 4
    assert {one["of"] for one in numbers} == {"ppo"}


def test_what_a_training_sampled_is_not_read_unasked(here, capsys):
    recipe = here / "runs" / "x" / "recipe.toml"
    recipe.write_text(RECIPE + HACKING.replace('from = "ppo"', ""))
    assert run(["run", "runs/x", "--quiet"]) == 1
    assert "'from' is missing; name an earlier step or a file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["sft", "--reward", "mine.py:score"],
            "error: cai train sft: unknown key 'reward'; did you mean",
        ),
        (["ppo"], "error: cai train ppo: 'reward' is missing; add reward = ..."),
        (["ppo", "--reward", "nowhere"], "error: there is no model 'nowhere'; give a folder or a hub id"),
        (
            ["ppo", "--reward", "./tiny", "--set", "max_tokens=4"],
            "error: model 'tiny' is no reward model; train one with 'cai train reward', and give its folder",
        ),
    ],
)
def test_errors(here, arguments, message, capsys):
    kind, *rest = arguments
    command = ["train", kind, "prompts.jsonl", "--model", "./tiny", "-o", "out", *rest, "--batch-size", "2"]
    assert run([*command, "--steps", "1", "--quiet"]) != 0
    assert message in capsys.readouterr().err
