"""cai sweep: which combinations there are, what they are called, what cannot be swept."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from counted import Counted
from sweeping import axis, go, recipe_folder

from cai.commands.sweep import _parts
from cai.sweep.axes import Combination, groups_of


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield from recipe_folder(tmp_path, monkeypatch)


def test_all_combinations_or_one_key_at_a_time() -> None:
    axes = (axis("steps.a.lr", 0.1, 0.2), axis("steps.b.lr", 1.0), axis("steps.c.label", "soft", None))
    [grid] = groups_of(axes, each=False)
    assert [one.name for one in grid.combinations] == [
        "a.lr=0.1,b.lr=1.0,label=soft",
        "a.lr=0.1,b.lr=1.0,label=unset",
        "a.lr=0.2,b.lr=1.0,label=soft",
        "a.lr=0.2,b.lr=1.0,label=unset",
    ]
    assert grid.combinations[1].settings == {"steps.a.lr": 0.1, "steps.b.lr": 1.0, "steps.c.label": None}
    each = groups_of(axes, each=True)
    assert [group.keys for group in each] == [("steps.a.lr",), ("steps.b.lr",), ("steps.c.label",)]
    assert [one.name for one in each[2].combinations] == ["label=soft", "label=unset"]
    [alone] = groups_of((), each=False)
    assert [one.name for one in alone.combinations] == ["recipe"]


def test_values_are_called_by_what_tells_them_apart() -> None:
    [paths] = groups_of((axis("constitution", "a/mine.toml", "a/other.toml"),), each=False)
    assert [one.name for one in paths.combinations] == ["constitution=mine", "constitution=other"]
    [mixed] = groups_of((axis("steps.a.b", "1", 1, None, "unset"),), each=False)
    assert [one.name for one in mixed.combinations] == ['b="1"', "b=1", "b=unset", 'b="unset"']
    assert len({one.folder for one in mixed.combinations}) == 4
    [alike] = groups_of((axis("constitution", "a/mine.toml", "b/mine.toml"),), each=False)
    assert [one.folder for one in alike.combinations] == [
        f"constitution=a_mine.toml-{alike.combinations[0].folder[-8:]}",
        f"constitution=b_mine.toml-{alike.combinations[1].folder[-8:]}",
    ]


@pytest.mark.parametrize("name", ["..", "a/../b", "x" * 200, "é", "a b", '["q"]'])
def test_no_name_leads_out_of_the_folder(name: str) -> None:
    folder = Combination(settings={"steps.a.b": name}, labels={"steps.a.b": name}).folder
    assert re.fullmatch(r"[\w,=+-][\w.,=+-]{0,88}", folder, re.ASCII) and folder != name


def test_the_values_of_a_key_stand_between_commas() -> None:
    listed = '1, [0.4,0.6],{ a = "x,]" , b = 2 },,"a,b"'
    assert list(_parts(listed)) == ["1", "[0.4,0.6]", '{ a = "x,]" , b = 2 }', "", '"a,b"']


@pytest.mark.parametrize(
    "options, code, message",
    [
        (["--set", "rounds"], 2, "--set: 'rounds' is no key=values; write --set steps.NAME.KEY=A,B"),
        (["--set", "steps.a=1"], 2, "--set steps.a: 'steps.a' names no key; write steps.NAME.KEY"),
        (
            ["--set", "steps.revison.rounds=1"],
            2,
            "--set steps.revison.rounds: no step is called 'revison'; did you mean 'revisions'?",
        ),
        (
            ["--set", "engines.strat.model=a"],
            2,
            "--set engines.strat.model: no engine is called 'strat'; did you mean 'start'?",
        ),
        (["--set", "step.a.b=1"], 2, "--set step.a.b: a recipe has no key 'step.a.b'; did you mean 'steps'?"),
        (
            ["--set", "rounds=1"],
            2,
            "--set rounds: a recipe has no key 'rounds'; "
            "write steps.NAME.KEY, engines.NAME.KEY or constitution",
        ),
        (["--set", "seed=1,2"], 2, "--set seed: 'seed' is varied with --seeds; take it out"),
        (
            ["--set", "steps.revisions.rounds.x=1"],
            1,
            "runs/x/recipe.toml [steps.2] (with x=1): 'rounds' is {'x': 1}; write a whole number",
        ),
        (
            ["--set", "steps.responses.samples.x=1"],
            2,
            "--set steps.responses.samples.x: 'samples' is 2; "
            "write it as a table in the recipe, then set its keys",
        ),
        (
            ["--set", "steps.revisions.rounds=1,1"],
            2,
            "--set: 'steps.revisions.rounds' has a value twice; take one out",
        ),
        (
            ["--set", "steps.revisions.rounds=1", "--set", "steps.revisions.rounds=2"],
            2,
            "--set: 'steps.revisions.rounds' is set twice; give all its values in one --set",
        ),
        (["--each"], 2, "'--each' varies nothing; give a key and its values with --set"),
        (
            ["--set", "steps.revisions.round=1"],
            1,
            "runs/x/recipe.toml [steps.2] (with round=1): unknown key 'round'; did you mean 'rounds'?",
        ),
        (
            ["--set", "steps.revisions.rounds=1,-1"],
            1,
            "runs/x/recipe.toml [steps.2] (with rounds=-1): 'rounds' is -1; write 0 or a number above it",
        ),
        (
            ["--set", "steps.comparisons.judge.min_mas=0.2"],
            1,
            "runs/x/recipe.toml [steps.3] judge (with min_mas=0.2): "
            "unknown key 'min_mas'; did you mean 'min_mass'?",
        ),
    ],
)
def test_what_cannot_be_swept_is_named_before_anything_runs(
    folder: Path, capsys: pytest.CaptureFixture[str], options: list[str], code: int, message: str
) -> None:
    assert go(*options) == code
    assert capsys.readouterr().err == f"error: {message}\n"
    assert Counted.asked == [] and not Path("runs/s").exists()
