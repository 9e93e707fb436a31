"""A command that can use nothing of what it reads fails, and says where it is told why."""

import json
from pathlib import Path

import pytest
from recipes import CONSTITUTION, RESPONSES, SCREENED, SCRIPTED

from cai.cli import run

PROMPT = '{"prompt": "How do I bake bread?"}\n'
NO_ROW = '{"promt": "How do I bake bread?"}\n'
ASKING = "--engine scripted --constitution mine.toml"
COMMANDS = [
    ("generate", NO_ROW, "--engine scripted", "bad row"),
    ("critique", NO_ROW, ASKING, "bad row"),
    ("critique", PROMPT, ASKING, "no answer"),
    ("revise", PROMPT, ASKING, "no answer"),
    ("screen", PROMPT, "", "no answer"),
    ("compare", NO_ROW, ASKING, "bad row"),
    ("compare", PROMPT, ASKING, "no answer"),
    ("annotate", PROMPT, ASKING, "bad row"),
    ("pairs", PROMPT, "", "no revision"),
    ("select", PROMPT, "", "bad row"),
    ("eval", NO_ROW, "--eval refusals --set detectors=phrases", "bad row"),
    ("eval", PROMPT, "--eval judge", "bad row"),
]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(CONSTITUTION)
    return tmp_path


@pytest.mark.parametrize(("command", "line", "options", "reason"), COMMANDS)
def test_every_command_says_that_nothing_came_of_it(
    command: str, line: str, options: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("rows.jsonl").write_text(2 * line)
    given = [command, "rows.jsonl", *options.split(), "--quiet", "-o"]
    for _ in range(2):
        assert run([*given, "out.jsonl"]) == 1
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err == (
            f"error: out.jsonl: every item was rejected (2 {reason}); out.rejects.jsonl says why\n"
        )
    assert Path("out.jsonl").read_bytes() == b""
    assert {json.loads(row)["reason"] for row in Path("out.rejects.jsonl").read_text().splitlines()} == {
        reason
    }
    # A shard of many may have no other.
    assert run([*given, "out.jsonl", "--shard", "1/1"]) == 0


def test_a_recipe_goes_on_and_fails_at_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    Path("prompts.jsonl").write_text(PROMPT)
    recipe = [f'{SCRIPTED}text = " "\n', RESPONSES, SCREENED, RESPONSES.replace("responses", "more")]
    Path("recipe.toml").write_text("".join(recipe))
    assert run(["run", "recipe.toml", "-o", "x"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: x/responses.jsonl: every item was rejected (1 empty); x/responses.rejects.jsonl says why"
    )
    assert Path("x/more.json").exists()


def test_a_training_that_nothing_is_left_for(capsys: pytest.CaptureFixture[str]) -> None:
    Path("rows.jsonl").write_text(2 * PROMPT)
    command = ["train", "sft", "rows.jsonl", "--model", "organism", "--epochs", "1", "-o", "out"]
    assert run([*command, "--batch-size", "2", "--quiet"]) == 1
    assert capsys.readouterr().err == (
        "error: rows.jsonl: every row was left out (2 no answer); give a file with usable rows\n"
    )
