"""The README shows what the code does: commands, recipe, constitution, plugin, links and figures."""

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import click
import pytest

from cai import constitution, constitution_check, recipe
from cai.cli import cli
from cai.records import Record, Turn, user

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return [text for name, text in fenced if name == language]


def commands() -> list[str]:
    spelled_out = [line for block in blocks("") for line in block.replace("\\\n", " ").splitlines()]
    inline = re.findall(r"`(cai [^`]+)`", README)
    return [line.split("#")[0].strip() for line in [*spelled_out, *inline] if line.startswith("cai ")]


@pytest.mark.parametrize("line", commands())
def test_every_command_and_flag_exists(line: str) -> None:
    words = re.sub(r"\s+", " ", line).split(" ")[1:]
    command: click.Command = cli
    with click.Context(cli) as context:
        while words and isinstance(command, click.Group):
            found = command.get_command(context, words.pop(0))
            assert found is not None, line
            command = found
    known = {
        option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
    }
    assert {word for word in words if word.startswith("-") and len(word) > 1} <= known | {"--help"}


def test_the_recipe_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [shown] = [block for block in blocks("toml") if "[[steps]]" in block]
    (tmp_path / "recipe.toml").write_text(shown)
    monkeypatch.chdir(ROOT)
    assert [step.name for step in recipe.load(tmp_path / "recipe.toml").steps] == [
        "responses",
        "revisions",
        "sl-cai",
        "table-start",
        "table-sl-cai",
        "table",
    ]


def test_the_constitution_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [shown] = [block for block in blocks("toml") if "[[principle]]" in block]
    (tmp_path / "mine.toml").write_text(shown)
    monkeypatch.chdir(ROOT)
    loaded = constitution.load(tmp_path / "mine.toml")
    assert (len(loaded.principles), loaded.principles[-1].id) == (29, "no-doxing")
    assert constitution_check.check(loaded) == []


def test_the_stage_is_one() -> None:
    [shown] = blocks("python")
    names: dict[str, type] = {}
    exec(shown, names)
    record = Record(
        id="1", prompt_id="1", prompt=(user("Hi"),), turns=(Turn(kind="response", text="Hello!"),)
    )
    asking = names["Shorten"](words=3).work(record)
    [request] = next(asking)
    assert request.messages[-1]["content"] == "Say it in at most 3 words."


def test_the_files_it_links_to_are_there() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


def test_its_tables_are_what_the_results_say() -> None:
    checked = subprocess.run([sys.executable, ROOT / "bench" / "tables.py", "--check"])
    assert checked.returncode == 0, "run python bench/tables.py"


def test_the_tree_names_what_is_there() -> None:
    [tree] = [block for block in blocks("") if block.startswith("cai/\n")]
    named = re.findall(r"[a-z_]+\.py|[a-z_]+/", tree.split("\n", 1)[1].split("constitutions/")[0])
    missing = [
        name
        for name in named
        if not any((ROOT / "cai" / place / name).exists() for place in ("", "organism"))
    ]
    assert missing == []


STAGES = """
constitution = "harmless"
[engines.start]
type = "scripted"
[[steps]]
name = "responses"
stage = "generate"
engine = "start"
from = "prompts/red-team.jsonl"
[[steps]]
name = "critiques"
stage = "critique"
engine = "start"
"""


@pytest.fixture
def unparted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """What responses and critiques are without shards; `cai` is on the path, and no model is needed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    Path("stages.toml").write_text(STAGES)
    subprocess.run(["cai", "run", "stages.toml", "-o", "whole", "--quiet"], check=True)
    return rows("whole")


def rows(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).glob("*s.jsonl")}


def test_the_shell_s_shards_come_to_the_whole(unparted: dict[str, bytes]) -> None:
    [loop] = [block for block in blocks("sh") if "xargs" in block]
    subprocess.run(["sh", "-e"], input=loop.replace("--model M", "--engine scripted"), text=True, check=True)
    assert rows("runs/x") == unparted


def test_the_job_array_s_shards_come_to_the_whole(unparted: dict[str, bytes]) -> None:
    [job] = [block for block in blocks("sh") if "SBATCH" in block]
    for number in range(1, 9):
        task = {"SLURM_ARRAY_TASK_ID": str(number), "SLURM_ARRAY_TASK_COUNT": "8"}
        subprocess.run(["sh", "-e"], input=job, text=True, check=True, env={**os.environ, **task})
    subprocess.run(["cai", "merge", "runs/x"], check=True)
    assert rows("runs/x") == unparted


def test_ray_s_shards_come_to_the_whole(unparted: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for Ray that calls at once."""

    def remote(**_: object) -> object:
        return lambda function: SimpleNamespace(remote=function)

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(remote=remote, get=list))
    [program] = blocks("py")
    exec(program, {})
    assert rows("runs/x") == unparted
