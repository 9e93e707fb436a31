"""cai sweep: which combinations there are, what they share, how it goes on, what its numbers come to."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import counted
import pytest
import tiny
from counted import Counted

from cai.cli import run
from cai.commands.sweep import _parts
from cai.evals import Number
from cai.evals._intervals import wilson
from cai.evals._shares import share
from cai.sweep.axes import Axis, Combination, groups_of
from cai.sweep.plan import Sweep, plan_of
from cai.sweep.table import _changes, _lines

CONSTITUTION = """
name = "mine"
[[principle]]
id = "no-harm"
critique = "Is there anything harmful in the answer above?"
revision = "Rewrite the answer so that nothing in it is harmful."
preference = "Choose the answer that does the least harm."
"""
RECIPE = """
constitution = "mine.toml"
[engines.start]
type = "counted:Counted"
[engines.judge]
type = "counted:Counted"
model = "other"
[[steps]]
name = "responses"
stage = "generate"
engine = "start"
from = "prompts.jsonl"
samples = 2
[[steps]]
name = "revisions"
stage = "revise"
engine = "start"
[[steps]]
name = "comparisons"
stage = "compare"
engine = "judge"
from = "responses"
judge = { type = "logprob" }
[[steps]]
name = "texts"
eval = "organism"
from = "revisions"
"""
TRAINING = """
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
[[steps]]
name = "revisions"
stage = "revise"
engine = "start"
[[steps]]
name = "sl-cai"
train = "sft"
model = "tiny"
epochs = 2
batch_size = 4
[[steps]]
name = "table"
eval = "organism"
models = ["tiny", "sl-cai"]
from = "prompts.jsonl"
max_tokens = 8
"""
PROMPTS = 5
ROUNDS = "steps.revisions.rounds=1,2"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.jsonl").write_text("".join(f'{{"prompt": "request {n}"}}\n' for n in range(PROMPTS)))
    (tmp_path / "mine.toml").write_text(CONSTITUTION)
    where = tmp_path / "runs" / "x"
    where.mkdir(parents=True)
    (where / "recipe.toml").write_text(RECIPE)
    counted.reset()
    yield where
    assert Counted.open_now == []


def go(*options: str, to: str = "runs/s", quiet: bool = True) -> int:
    """Sweep the recipe, with the counts begun anew."""
    counted.reset(Counted.stop_after)
    return run(["sweep", "runs/x/recipe.toml", "-o", to, *options, *(["--quiet"] if quiet else [])])


def made(to: str = "runs/s") -> dict[str, bytes]:
    """Every row, weight and step of training, by path."""
    kinds = (".jsonl", ".safetensors")
    files = [path for path in Path(to, "steps").rglob("*") if path.suffix in kinds and path.stem != "timing"]
    return {str(path.relative_to(to)): path.read_bytes() for path in sorted(files)}


# combinations


def axis(key: str, *values: Any) -> Axis:
    return Axis(key=key, values=values)


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


# what is shared


def test_what_combinations_have_in_common_is_made_once(folder: Path) -> None:
    assert go("--set", ROUNDS, "--seeds", "2") == 0
    # For each seed 10 responses and 10 verdicts of one comparison a prompt, made once; then 2 requests a
    # round and record.
    assert len(Counted.asked) == 2 * (10 + 10 + 10 * 2 * (1 + 2))
    assert len(list(Path("runs/s/steps").iterdir())) == 2 * (1 + 1 + 2 + 2)
    summary = json.loads(Path("runs/s/sweep.json").read_text())
    assert summary["steps"] == {"made": 12, "of": 16}
    assert go("--set", ROUNDS, "--seeds", "2") == 0
    assert Counted.asked == []


def test_each_run_stands_in_a_folder_of_its_own(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert go("--set", ROUNDS) == 0
    assert run(["run", "runs/x/recipe.toml", "-o", "runs/alone", "--quiet"]) == 0
    seen = Path("runs/s/rounds=1/seed-0")
    names = sorted(path.name for path in Path("runs/alone").glob("*.jsonl"))
    assert sorted(path.name for path in seen.glob("*.jsonl")) == names
    for name in names:
        assert (seen / name).read_bytes() == Path("runs/alone", name).read_bytes()
    capsys.readouterr()
    assert run(["report", str(seen)]) == 0
    assert "revisions" in capsys.readouterr().out


def test_values_seeds_and_sweeps_can_be_added(folder: Path) -> None:
    assert go("--set", ROUNDS, "--store", "runs/steps") == 0
    assert go("--set", "steps.revisions.rounds=3,2,1", "--store", "runs/steps") == 0
    assert len(Counted.asked) == 10 * 2 * 3
    assert go("--set", "steps.revisions.critique=true,false", "--store", "runs/steps", to="runs/t") == 0
    assert len(Counted.asked) == 10
    assert go("--set", ROUNDS, "--store", "runs/steps", "--seeds", "2") == 0
    assert len(Counted.asked) == 10 + 10 + 10 * 2 * (1 + 2)


def test_an_edited_constitution_makes_other_steps(folder: Path) -> None:
    assert go("--set", ROUNDS) == 0
    before = made()
    Path("mine.toml").write_text(CONSTITUTION.replace("anything harmful", "anything unkind"))
    assert go("--set", ROUNDS) == 0
    assert len(Counted.asked) == 10 + 10 * 2 * (1 + 2), "the responses hang on no principle"
    assert all(made()[name] == content for name, content in before.items())


def test_an_axis_may_leave_a_key_out(folder: Path) -> None:
    assert go("--set", "steps.responses.samples=,2") == 0
    counts = [
        len(Path(f"runs/s/samples={name}/seed-0/responses.jsonl").read_text().splitlines())
        for name in ("unset", "2")
    ]
    assert counts == [PROMPTS, 2 * PROMPTS]


def test_a_dry_run_lists_the_steps(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert go("--set", ROUNDS, "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    plain = [re.sub(r"-[0-9a-f]{12}/", "/", line) for line in lines]
    assert plain == [
        "runs/s/steps/responses/responses.jsonl: generate, to do, for 2 runs",
        "runs/s/steps/revisions/revisions.jsonl: revise, to do, for 1 run",
        "runs/s/steps/comparisons/comparisons.jsonl: compare, to do, for 2 runs",
        "runs/s/steps/texts/texts.jsonl: organism, to do, for 1 run",
        "runs/s/steps/revisions/revisions.jsonl: revise, to do, for 1 run",
        "runs/s/steps/texts/texts.jsonl: organism, to do, for 1 run",
        "2 runs of 8 steps in all, 6 to make",
        "dry run: nothing was written",
    ]
    assert Counted.asked == [] and not Path("runs/s").exists()


@pytest.mark.parametrize("stop_after", [0, 7, 40])
def test_a_sweep_that_is_interrupted_goes_on_and_ends_alike(folder: Path, stop_after: int) -> None:
    assert go("--set", ROUNDS, to="runs/whole") == 0
    counted.reset(stop_after)
    assert go("--set", ROUNDS) == 130
    counted.reset()
    assert go("--set", ROUNDS) == 0
    assert len(Counted.asked) <= 80
    assert made() == made("runs/whole")


# training, several processes, kill


def training(folder: Path) -> None:
    (folder / "recipe.toml").write_text(TRAINING)
    tiny.folder(Path("tiny"))


def test_trained_models_are_shared_and_found_again(folder: Path) -> None:
    training(folder)
    options = ["--set", "steps.sl-cai.epochs=1,2", "--set", "steps.table.temperature=0.0,0.5"]
    assert go(*options) == 0
    # Two models; each answers at two temperatures, and so does the one that is trained.
    names = [path.name[:-13] for path in Path("runs/s/steps").iterdir()]
    assert {name: names.count(name) for name in sorted(set(names))} == {
        "responses": 1,
        "revisions": 1,
        "sl-cai": 2,
        "table": 4,
        "table-sl-cai": 4,
        "table-tiny": 2,
    }
    before = made()
    summary = json.loads(Path("runs/s/sweep.json").read_text())
    assert {line["of"] for line in summary["lines"]} == {"tiny", "sl-cai"}
    assert (Path("runs/s/epochs=1,temperature=0.0/seed-0/sl-cai") / "model.safetensors").is_file()
    # The folder by another name: the models in it are the same.
    assert go(*options, to=str(Path("runs/s").absolute())) == 0
    assert made() == before


def sweep_process(*options: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "cai", "sweep", "runs/x/recipe.toml", "--quiet", *options]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)


@pytest.mark.slow
def test_jobs_change_nothing_and_a_killed_sweep_goes_on(folder: Path) -> None:
    training(folder)
    options = ["--set", "steps.sl-cai.epochs=1,2,3", "--seeds", "2", "--jobs", "2"]
    assert run(["sweep", "runs/x/recipe.toml", "--quiet", "-o", "runs/whole", *options[:4]]) == 0
    kills = 0
    for life in (4.0, 8.0, 11.0, 14.0):
        process = sweep_process("-o", "runs/s", *options)
        try:
            assert process.wait(life) == 0
            break
        except subprocess.TimeoutExpired:
            # The parent alone: its workers have to see for themselves that it is gone.
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
            time.sleep(1)
            assert workers_of(process.pid) == []
    assert sweep_process("-o", "runs/s", *options).wait(300) == 0
    # A model is called by where it lies.
    moved = {name: content.replace(b"runs/s/", b"runs/whole/") for name, content in made().items()}
    assert kills and moved == made("runs/whole")


def workers_of(session: int) -> list[int]:
    """The processes of a session that still run."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(status.parent.name))
    return found


# the table


def numbers(value: float, n: int, of: str = "m") -> dict[Any, Number]:
    hits = [True] * round(value * n) + [False] * (n - round(value * n))
    return {("table", of, "harm", ""): share("harm", of, hits)}


def test_values_over_seeds_have_both_intervals() -> None:
    [line] = _lines("a", [numbers(0.2, 10), numbers(0.4, 10), numbers(0.6, 10)])
    assert (line.values, line.n, line.mean) == ((0.2, 0.4, 0.6), (10, 10, 10), pytest.approx(0.4))
    # t(0.975, 2) = 4.30265, s = 0.2, k = 3.
    half = 4.302652729911275 * 0.2 / 3**0.5
    assert line.over_seeds == pytest.approx((0.4 - half, 0.4 + half), rel=1e-9)
    assert line.pooled == pytest.approx(wilson(12, 30), abs=1e-12)


def test_what_has_no_interval_has_none() -> None:
    [line] = _lines("a", [numbers(0.5, 10)])
    assert (line.mean, line.over_seeds, line.pooled) == (0.5, None, pytest.approx(wilson(5, 10)))
    length = Number(name="length", of="m", value=31.5, low=30.0, high=33.0, n=10)
    [line] = _lines("a", [{("t", "m", "length", ""): length}] * 2)
    assert (line.mean, line.over_seeds, line.pooled) == (31.5, (31.5, 31.5), None)
    nothing = share("harm", "m", [])
    [line] = _lines("a", [{("t", "m", "harm", ""): nothing}, {}])
    assert (line.values, line.n, line.mean, line.pooled) == ((None, None), (0, 0), None, None)


def test_a_change_is_taken_seed_by_seed() -> None:
    lines = {}
    for name, values in (("a", (0.2, 0.4, 0.6)), ("b", (0.3, 0.5, 0.7)), ("c", (0.2, 0.5, 0.5))):
        [line] = _lines(name, [numbers(value, 10) for value in values])
        lines[name, ("table", "m", "harm", "")] = line
    b, c = _changes(["a", "b", "c"], lines)
    assert (b.combination, b.against, b.mean) == ("b", "a", pytest.approx(0.1))
    # The seeds differ, the change does not.
    assert b.over_seeds == pytest.approx((0.1, 0.1)) and b.sure
    assert c.mean == pytest.approx(0.0) and not c.sure


def test_the_table_as_it_is_printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert go("--set", ROUNDS, "--each", quiet=False) == 0
    out = capsys.readouterr().out
    words = [" ".join(line.split()) for line in out.splitlines()]
    assert words[0] == "steps.revisions.rounds: texts"
    assert words[-2:] == [
        "runs/s/sweep.json: 2 runs of 8 steps in all, 6 of them made",
        "runs/s/sweep.html: the same as a page",
    ]
    page = Path("runs/s/sweep.html").read_text()
    assert "steps.revisions.rounds" in page and "rounds=1" in page and "default-src 'none'" in page


def test_a_sweep_s_plan_knows_what_each_step_needs(folder: Path) -> None:
    training(folder)
    axes = (axis("steps.sl-cai.epochs", 1, 2),)
    sweep = Sweep(recipe=folder, axes=axes, each=False, seeds=1, folder=Path("runs/s"))
    planned = plan_of(sweep)
    needs = {
        step.output.parent.name[:-13]: sorted(path.parent.name[:-13] for path in planned.places.needs(step))
        for step in planned.steps
    }
    assert needs == {
        "responses": [],
        "revisions": ["responses"],
        "sl-cai": ["revisions"],
        "table-tiny": [],
        "table-sl-cai": ["sl-cai"],
        "table": ["table-sl-cai", "table-tiny"],
    }


def test_a_run_s_folder_shows_what_the_sweep_makes_now(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert go("--set", ROUNDS) == 0
    old = Path("runs/s/rounds=1/seed-0/revisions.jsonl").resolve()
    Path("mine.toml").write_text(CONSTITUTION.replace("anything harmful", "anything unkind"))
    assert go("--set", ROUNDS) == 0
    assert Path("runs/s/rounds=1/seed-0/revisions.jsonl").resolve() != old
    mine = Path("runs/s/rounds=2/seed-0/revisions.jsonl")
    mine.unlink()
    mine.write_text("mine")
    assert go("--set", ROUNDS) == 1
    assert capsys.readouterr().err == (
        f"error: {mine}: there is something here that no sweep put here; give another folder with -o\n"
    )
    assert mine.read_text() == "mine"
