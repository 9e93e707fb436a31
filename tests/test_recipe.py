"""What a recipe's steps become. What is refused is in the tables of bad_input."""

from pathlib import Path

import pytest

from cai.engines.scripted import Scripted
from cai.recipe import load, output_names
from cai.steps import EvalStep, StageStep, TrainStep

ENGINE = """
[engines.start]
type = "scripted"
"""
LOCAL = """
[engines.start]
type = "local"
model = "organism"
dtype = "bfloat16"
"""
STEPS = """
[[steps]]
name = "responses"
stage = "generate"
engine = "start"
from = "prompts.jsonl"
limit = 7
temperature = 0.7
[[steps]]
name = "critiques"
stage = "critique"
engine = "start"
[[steps]]
name = "revisions"
stage = "revise"
engine = "start"
seed = 9
"""
TRAIN = """
[[steps]]
name = "sl-cai"
train = "sft"
model = "start"
from = ["revisions", "responses"]
weights = [1, 0.5]
epochs = 2
batch_size = 4
train_on = "all"
"""
TABLE = """
[[steps]]
name = "table"
eval = "organism"
models = ["start", "sl-cai"]
from = "prompts.jsonl"
temperature = 0.5
limit = 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "x"}\n')
    (tmp_path / "runs").mkdir()
    return Path("runs")


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


def test_stages_read_the_step_before_and_take_the_recipe_s_defaults(folder: Path) -> None:
    path = write(folder, 'seed = 4\nconstitution = "organism"\n' + ENGINE + STEPS)
    first, second, third = load(path).steps
    assert isinstance(first, StageStep) and isinstance(second, StageStep) and isinstance(third, StageStep)
    assert first.inputs == (Path("prompts.jsonl"),)
    assert first.output == folder / "responses.jsonl"
    assert first.engine == Scripted()
    assert (first.limit, second.limit) == (7, None)
    assert second.inputs == (folder / "responses.jsonl",)
    assert third.inputs == (folder / "critiques.jsonl",)
    assert [step.stage.seed for step in (first, second, third)] == [4, 4, 9]
    assert second.stage.constitution.name == "organism"
    assert first.stage.temperature == 0.7


def test_a_trained_model_is_an_engine_like_the_one_it_came_from(folder: Path) -> None:
    use = '[[steps]]\nname = "rivals"\nstage = "generate"\nengine = "sl-cai"\nfrom = "prompts.jsonl"\n'
    steps = load(write(folder, 'constitution = "organism"\n' + LOCAL + STEPS + TRAIN + use)).steps
    training, rivals = steps[3:]
    assert isinstance(training, TrainStep) and isinstance(rivals, StageStep)
    assert training.model.model == "organism"
    assert training.inputs == (folder / "revisions.jsonl", folder / "responses.jsonl")
    assert training.weights == (1.0, 0.5)
    assert training.objective.train_on == "all"
    assert (training.settings.epochs, training.settings.batch_size) == (2, 4)
    assert rivals.engine.model == "runs/sl-cai"
    assert rivals.engine.dtype == "bfloat16"


def test_an_eval_of_models_has_each_of_them_answer_first(folder: Path) -> None:
    path = write(folder, 'constitution = "organism"\n' + LOCAL + STEPS + TRAIN + TABLE)
    steps = load(path).steps
    first, second, table = steps[4:]
    assert isinstance(first, StageStep) and isinstance(second, StageStep) and isinstance(table, EvalStep)
    assert [step.name for step in (first, second, table)] == ["table-start", "table-sl-cai", "table"]
    assert first.stage == second.stage
    assert (first.stage.temperature, first.limit, table.limit) == (0.5, 3, None)
    assert [first.engine.model, second.engine.model] == ["organism", "runs/sl-cai"]
    assert table.inputs == (first.output, second.output)
    assert table.engine is None
    assert output_names(path) == [step.name for step in steps]


def test_a_step_s_output_may_be_named_by_its_path(folder: Path) -> None:
    by_path = ENGINE + STEPS.replace(
        'stage = "critique"', 'stage = "critique"\nfrom = "runs/responses.jsonl"'
    )
    by_name = load(write(folder, 'constitution = "organism"\n' + ENGINE + STEPS))
    assert load(write(folder, 'constitution = "organism"\n' + by_path)) == by_name


def test_a_trial_has_a_folder_of_its_own_and_limits_what_comes_in(folder: Path) -> None:
    path = write(folder, 'seed = 4\nconstitution = "organism"\n' + ENGINE + STEPS)
    trial = load(path, folder=Path("trial"), changes={"seed": 5, "limit": 2})
    assert [step.output for step in trial.steps] == [
        Path("trial") / f"{name}.jsonl" for name in ("responses", "critiques", "revisions")
    ]
    assert [step.limit for step in trial.steps] == [2, None, None]
    assert trial.steps[0].stage.seed == 5


def test_the_folder_of_a_recipe_stands_for_it(folder: Path) -> None:
    path = write(folder, 'constitution = "organism"\n' + ENGINE + STEPS)
    assert load(folder) == load(path)


def test_every_recipe_that_is_shipped_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).parent.parent
    monkeypatch.chdir(root)
    recipes = sorted(Path("runs").glob("*/recipe.toml"))
    assert Path("runs/demo/recipe.toml") in recipes
    for recipe in recipes:
        assert load(recipe).steps
