"""cai sweep: what combinations share, how it goes on, what stands where."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import counted
import pytest
from counted import Counted
from recipes import CONSTITUTION
from sweeping import PROMPTS, ROUNDS, axis, go, made, recipe_folder, training

from cai.cli import run
from cai.sweep.plan import Sweep, plan_of


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield from recipe_folder(tmp_path, monkeypatch)


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
