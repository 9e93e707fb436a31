"""A command line that answers at once: nothing heavy is imported until there is something for it to do."""

import ast
import subprocess
import sys
from pathlib import Path

import click
import pytest

from cai.cli import cli, run

HEAVY = ("torch", "transformers", "vllm", "tokenizers", "numpy", "huggingface_hub", "datasets")
LIGHT = [
    "cai",
    "cai.cli",
    "cai.config",
    "cai.constitution",
    "cai.engines",
    "cai.estimate",
    "cai.detectors.options",
    "cai.detectors.phrases",
    "cai.evals",
    "cai.calibrating",
    "cai.calibration",
    "cai.evals.adherence",
    "cai.evals.judge",
    "cai.evals.organism_judge",
    "cai.evals.perplexity",
    "cai.evals.refusals",
    "cai.evals.robustness",
    "cai.evals.winrate",
    "cai.gold",
    "cai.execute",
    "cai.export",
    "cai.judges",
    "cai.judges.logprob",
    "cai.judges.panel",
    "cai.judges.reasoned",
    "cai.judges.reward",
    "cai.judges.score",
    "cai.merge",
    "cai.pipeline",
    "cai.plugins",
    "cai.recipe",
    "cai.records",
    "cai.report.page",
    "cai.report.state",
    "cai.report.terminal",
    "cai.review.session",
    "cai.rows",
    "cai.runs",
    "cai.shards",
    "cai.show",
    "cai.stages.annotate",
    "cai.stages.attack",
    "cai.stages.calibrate",
    "cai.stages.compare",
    "cai.stages.critique",
    "cai.stages.generate",
    "cai.stages.likelihood",
    "cai.stages.pairs",
    "cai.stages.paraphrase",
    "cai.stages.revise",
    "cai.stages.screen",
    "cai.stages.select",
    "cai.sweep.page",
    "cai.sweep.terminal",
    "cai.sweep.work",
]
# What puts plugins to work.
STEPS = frozenset(
    {"cai.steps", "cai.draft", "cai.recipe", "cai.ledger", "cai.execute", "cai.pipeline", "cai.trained"}
)
COMMANDS = [
    ["--help"],
    ["--version"],
    ["generate", "--help"],
    ["revise", "--help"],
    ["compare", "--help"],
    ["annotate", "--help"],
    ["train", "--help"],
    ["eval", "--help"],
    ["run", "--help"],
    ["select", "--help"],
    ["sweep", "--help"],
    ["merge", "--help"],
    ["review", "--help"],
    ["report", "--help"],
    ["show", "--help"],
    ["export", "--help"],
    ["calibration", "--help"],
    ["calibrate", "--help"],
    ["runs", "--help"],
    ["constitution", "check", "--help"],
    ["organism", "build", "--help"],
    ["chat", "--help"],
]


def heavy_after(code: str) -> list[str]:
    """Which heavy packages a fresh interpreter has imported after `code`."""
    report = f"import sys; print('HEAVY', *(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()[-1].split()[1:]


def test_what_is_light_imports_nothing_heavy() -> None:
    assert heavy_after("\n".join(f"import {name}" for name in LIGHT)) == []


def test_no_help_imports_anything_heavy() -> None:
    calls = "\n".join(f"assert run({command!r}) == 0, {command!r}" for command in COMMANDS)
    assert heavy_after(f"from cai.cli import run\n{calls}") == []


def test_reporting_on_a_run_imports_nothing_heavy(tmp_path: Path) -> None:
    recipe = Path(__file__).parent.parent / "runs" / "demo" / "recipe.toml"
    (tmp_path / "recipe.toml").write_text(recipe.read_text())
    assert heavy_after(f"from cai.cli import run\nassert run(['report', {str(tmp_path)!r}]) == 0") == []


def test_every_command_has_a_line_of_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    listed = capsys.readouterr().out.split("Commands:")[1].splitlines()
    for command in cli.list_commands(click.Context(cli)):
        [line] = [line for line in listed if line.startswith(f"  {command} ")]
        assert len(line.split()) > 2


@pytest.mark.parametrize("kind", ["detectors", "evals", "judges", "stages"])
def test_what_works_on_rows_knows_nothing_of_the_steps_it_is_part_of(kind: str) -> None:
    package = Path(__file__).parent.parent / "cai" / kind
    for path in sorted(package.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            named = [node.module] if isinstance(node, ast.ImportFrom) else []
            assert not STEPS.intersection(named), f"{path.name} imports {named}"
