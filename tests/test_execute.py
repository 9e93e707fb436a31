"""Recipes carried out: what is asked, what is skipped, what is redone, what is left after a break."""

import json
from collections.abc import Iterator
from pathlib import Path

import counted
import pytest
import tiny
from counted import Counted
from recipes import COMPARISONS, CONSTITUTION, CRITIQUES, RESPONSES, REVISIONS, SCREENED, run_folder

from cai.cli import run
from cai.ledger import chain
from cai.recipe import load

RECIPE = f"""
constitution = "mine.toml"
[engines.start]
type = "counted:Counted"
[engines.judge]
type = "counted:Counted"
model = "other"
{RESPONSES}samples = 2
{CRITIQUES}{REVISIONS}{SCREENED}{COMPARISONS}engine = "judge"
"""
NAMES = ["responses", "critiques", "revisions", "screened", "comparisons"]
PROMPTS = 5


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    where = run_folder(tmp_path, RECIPE, PROMPTS)
    counted.reset()
    yield where
    assert Counted.open_now == []


def go(*options: str) -> int:
    """Run the recipe, with the counts begun anew."""
    counted.reset(Counted.stop_after)
    return run(["run", "runs/x/recipe.toml", *options])


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.jsonl"))}


def test_every_step_runs_once_and_a_second_run_asks_nothing(folder: Path) -> None:
    assert go() == 0
    made = files(folder)
    assert sorted(made) == sorted(f"{name}.jsonl" for name in NAMES)
    # 10 responses, 10 critiques, 10 revisions; one pair a prompt, judged in two orders.
    assert len(Counted.asked) == 30 + 2 * PROMPTS
    assert Counted.opened == ["counted", "other"]
    assert go() == 0
    assert Counted.asked == Counted.opened == []
    assert files(folder) == made


def test_stages_are_chained_up_to_a_barrier(folder: Path) -> None:
    steps = load(folder / "recipe.toml").steps
    assert [step.name for step in chain(steps)] == NAMES[:4]
    assert [step.name for step in chain(steps[4:])] == NAMES[4:]
    text = (folder / "recipe.toml").read_text()
    (folder / "recipe.toml").write_text(text.replace('stage = "revise"', 'stage = "revise"\nlimit = 3'))
    assert [step.name for step in chain(load(folder / "recipe.toml").steps)] == NAMES[:2]


def test_single_commands_write_the_same_rows_as_a_recipe(folder: Path) -> None:
    assert go() == 0
    engine = ["--engine", "counted:Counted"]
    steered = ["--constitution", "mine.toml", *engine]
    judge = ["--judge", "logprob", "--model", "other"]
    for command in (
        ["generate", "prompts.jsonl", "--samples", "2", *engine, "-o", "runs/y/responses.jsonl"],
        ["critique", "runs/y/responses.jsonl", *steered, "-o", "runs/y/critiques.jsonl"],
        ["revise", "runs/y/critiques.jsonl", *steered, "-o", "runs/y/revisions.jsonl"],
        ["screen", "runs/y/revisions.jsonl", "-o", "runs/y/screened.jsonl"],
        ["compare", "runs/y/responses.jsonl", *judge, *steered, "-o", "runs/y/comparisons.jsonl"],
    ):
        assert run(command) == 0
    assert files(folder.parent / "y") == files(folder)


def test_an_edited_constitution_is_named_and_redo_makes_what_hangs_on_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert go() == 0
    before = files(folder)
    Path("mine.toml").write_text(CONSTITUTION.replace("anything harmful", "anything unkind"))
    assert go() == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: runs/x/critiques.jsonl was made with another constitution (principle 'no-harm' changed); "
        "start a new run, or --redo (of cai run: --redo critiques)"
    )
    assert Counted.asked == []
    assert go("--redo", "critiques", "--redo", "comparisons") == 0
    after = files(folder)
    assert len(Counted.asked) == 20 + 2 * PROMPTS
    assert after["responses.jsonl"] == before["responses.jsonl"]
    assert all(after[f"{name}.jsonl"] != before[f"{name}.jsonl"] for name in NAMES[1:])


@pytest.mark.parametrize("stop_after", [0, 1, 7, 23, 33])
def test_a_run_that_is_interrupted_goes_on_and_ends_alike(
    folder: Path, capsys: pytest.CaptureFixture[str], stop_after: int
) -> None:
    assert go() == 0
    whole = files(folder)
    assert go("--redo", "responses") == 0
    counted.reset(stop_after)
    assert go("--redo", "responses") == 130
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: interrupted; the same command (without --redo) goes on from here"
    )
    counted.reset()
    assert go() == 0
    assert len(Counted.asked) <= 40
    assert files(folder) == whole


def test_a_dry_run_shows_requests_and_writes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert go("--dry-run") == 0
    assert Counted.asked == []
    assert [path.name for path in folder.iterdir()] == ["recipe.toml"]
    shown = capsys.readouterr().out
    assert [line for line in shown.splitlines() if line.startswith("runs/")] == [
        "runs/x/responses.jsonl: generate, to do",
        "runs/x/critiques.jsonl: critique, to do",
        "runs/x/revisions.jsonl: revise, to do",
        "runs/x/screened.jsonl: screen, to do",
        "runs/x/comparisons.jsonl: compare, to do",
    ]
    assert "Critique request: Is there anything harmful in the answer above?" in shown
    assert "  -> the probabilities of ' A', ' B'" in shown


def test_a_bad_row_is_a_reject_unless_strict(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Path("prompts.jsonl").open("a") as file:
        file.write('{"promt": "x"}\n')
    assert go("--strict") == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: prompts.jsonl:6: 'prompt' is missing; each line needs a string or a list of messages"
    )
    assert go() == 0
    [reject] = (folder / "responses.rejects.jsonl").read_text().splitlines()
    assert json.loads(reject)["line"] == 6


TRAINING = """
[engines.tiny]
type = "local"
model = "tiny"
[[steps]]
name = "sl-cai"
train = "sft"
model = "tiny"
from = ["screened", "responses"]
weights = [1.0, 0.5]
epochs = 2
batch_size = 4
[[steps]]
name = "rl-cai"
train = "dpo"
model = "sl-cai"
from = "comparisons"
epochs = 1
batch_size = 4
[[steps]]
name = "rivals"
stage = "generate"
engine = "rl-cai"
from = "prompts.jsonl"
max_tokens = 4
"""


def test_models_are_trained_once_and_serve_as_engines(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.folder(Path("tiny"))
    recipe = folder / "recipe.toml"
    recipe.write_text(RECIPE + TRAINING)
    assert go() == 0
    weights = {name: (folder / name / "model.safetensors").read_bytes() for name in ("sl-cai", "rl-cai")}
    assert len({*weights.values(), Path("tiny/model.safetensors").read_bytes()}) == 3
    rivals = [json.loads(line) for line in (folder / "rivals.jsonl").read_text().splitlines()]
    assert {row["turns"][0]["model"] for row in rivals} == {"runs/x/rl-cai"}
    capsys.readouterr()
    assert go() == 0
    assert all(line.endswith("done before") for line in capsys.readouterr().err.splitlines())
    recipe.write_text((RECIPE + TRAINING).replace("epochs = 2", "epochs = 1"))
    assert go() == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: runs/x/sl-cai was made with other settings (training epochs: 2 -> 1); "
        "start a new run, or --redo (of cai run: --redo sl-cai)"
    )
    assert go("--redo", "sl-cai") == 0
    assert (folder / "sl-cai" / "model.safetensors").read_bytes() != weights["sl-cai"]
    assert (folder / "rl-cai" / "model.safetensors").read_bytes() != weights["rl-cai"]


def test_a_folder_that_cai_did_not_train_is_never_removed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.folder(Path("tiny"))
    assert go() == 0
    (folder / "mine").mkdir()
    (folder / "mine" / "thesis.txt").write_text("years of work")
    command = ["train", "sft", "runs/x/screened.jsonl", "--model", "tiny", "-o", "runs/x/mine"]
    for redo in ([], ["--redo"]):
        assert run([*command, "--set", "epochs=1", "--set", "batch_size=4", *redo]) == 1
        assert "there is something here that cai did not train" in capsys.readouterr().err
    assert (folder / "mine" / "thesis.txt").read_text() == "years of work"
