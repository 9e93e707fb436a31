"""A run to take apart, and what came of it: shared by the tests of shards and of cai merge."""

import json
from pathlib import Path
from typing import Any

import pytest
from recipes import CRITIQUES, RESPONSES, REVISIONS, SCREENED

from cai import manifest
from cai.cli import run

RECIPE = f"""
constitution = "harmless"
[engines.start]
type = "scripted"
rules = [{{ contains = "request 7", text = " " }}, {{ matches = "request 1\\\\d", text = "Same." }}]
{RESPONSES}samples = 2
{CRITIQUES}{REVISIONS}{SCREENED}
[[steps]]
name = "comparisons"
stage = "compare"
engine = "start"
from = ["responses", "screened"]
"""
NAMES = ["responses", "critiques", "revisions", "screened", "comparisons"]
SCRIPTED = ["--engine", "scripted", "--quiet"]
STEERED = ["--constitution", "harmless", *SCRIPTED]


def requests_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with forty requests, repeats and two bad lines among them, and RECIPE."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.fsync", lambda handle: None)
    lines = [json.dumps({"prompt": f"request {number % 34}", "n": number}) for number in range(40)]
    lines[9:9], lines[20:20] = ["no JSON"], ["{}"]
    (tmp_path / "prompts.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return tmp_path


def contents(where: str, names: list[str] = NAMES) -> dict[str, bytes]:
    """Rows and rejects of the whole, and of each manifest what is no matter of time."""
    found = {}
    for name in names:
        for path in (Path(where, f"{name}.jsonl"), Path(where, f"{name}.rejects.jsonl")):
            if path.exists():
                found[path.name] = path.read_bytes()
        said = manifest.read(Path(where, f"{name}.jsonl")) or {}
        kept = ("complete", "identity", "fingerprint", "counts", "tokens", "files")
        found[f"{name}.json"] = json.dumps([said[key] for key in kept]).encode()
    return found


def interrupted(*_: Any) -> None:
    raise KeyboardInterrupt


def shard(which: str, *more: str) -> None:
    command = ["generate", "prompts.jsonl", *SCRIPTED, *more, "-o", "r/responses.jsonl", "--shard", which]
    assert run(command) == 0


def refused(capsys: pytest.CaptureFixture[str], *command: str, code: int = 1) -> str:
    capsys.readouterr()
    assert run(list(command)) == code
    return capsys.readouterr().err.removeprefix("error: ").removesuffix("\n")
