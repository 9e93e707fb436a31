"""Shards of real stages on the scripted engine: each prompt in one of them, and merged as if never parted."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cai import manifest
from cai.cli import run
from cai.merge import merge
from cai.records import digest
from cai.shards import Shard, name_of, path_of, shard_from, whole_of

RECIPE = """
constitution = "harmless"
[engines.start]
type = "scripted"
rules = [{ contains = "request 7", text = " " }, { matches = "request 1\\\\d", text = "Same." }]
[[steps]]
name = "responses"
stage = "generate"
engine = "start"
from = "prompts.jsonl"
samples = 2
[[steps]]
name = "critiques"
stage = "critique"
engine = "start"
[[steps]]
name = "revisions"
stage = "revise"
engine = "start"
[[steps]]
name = "screened"
stage = "screen"
[[steps]]
name = "comparisons"
stage = "compare"
engine = "start"
from = ["responses", "screened"]
"""
NAMES = ["responses", "critiques", "revisions", "screened", "comparisons"]
SCRIPTED = ["--engine", "scripted", "--quiet"]
STEERED = ["--constitution", "harmless", *SCRIPTED]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Forty requests with repeats, two bad lines among them."""
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


@given(st.text(), st.integers(1, 300))
def test_every_prompt_is_in_exactly_one_shard(prompt_id: str, of: int) -> None:
    assert sum(Shard(number, of).has(prompt_id) for number in range(1, of + 1)) == 1


@given(st.integers(0, 2**64 - 1), st.integers(1, 10**30), st.data())
def test_the_intervals_are_equal_and_leave_no_gap(drawn: int, of: int, data: st.DataObject) -> None:
    """By whole numbers, on the borders themselves too."""
    border = -(-data.draw(st.integers(0, of - 1)) * 2**64 // of)
    for value in {drawn, border, max(0, border - 1), 2**64 - 1} - {2**64}:
        number = value * of >> 64
        assert 0 <= number < of
        assert number * 2**64 <= value * of < (number + 1) * 2**64


def test_shards_are_of_about_one_size_and_so_are_those_of_a_part() -> None:
    ids = [digest("prompt", number) for number in range(4000)]
    part = [one for one in ids if int(one[:13], 16) / 16**13 < 0.25]
    for of, some in ((4, ids), (2, part)):
        for number in range(1, of + 1):
            assert sum(Shard(number, of).has(one) for one in some) / len(some) == pytest.approx(
                1 / of, abs=0.04
            )


def test_what_has_no_prompt_is_in_the_first_shard() -> None:
    assert [Shard(number, 3).has("") for number in (1, 2, 3)] == [True, False, False]


def test_names() -> None:
    output, shard = Path("runs/x/critiques.jsonl"), Shard(3, 8)
    assert path_of(output, shard) == Path("runs/x/critiques.3-of-8.jsonl")
    assert path_of(output, None) == whole_of(path_of(output, shard)) == output
    assert (name_of(path_of(output, shard)), name_of(output)) == ("critiques", "critiques")
    assert whole_of(Path("x/a.1-of-2.rejects.jsonl")) == Path("x/a.rejects.jsonl")
    assert (shard_from("3/8"), shard_from("8/8")) == (Shard(3, 8), Shard(8, 8))
    assert [shard_from(text) for text in ("0/8", "9/8", "3", "3/", "a/b", "3/8/9", "-1/8")] == [None] * 7


@pytest.mark.parametrize("of", [1, 2, 3, 30])
def test_a_recipe_by_shard_and_merged_is_as_one_run(of: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["run", "recipe.toml", "-o", "whole", "--quiet"]) == 0
    for number in range(of, 0, -1):
        assert run(["run", "recipe.toml", "-o", "parts", "--shard", f"{number}/{of}", "--quiet"]) == 0
    assert run(["merge", "parts"]) == 0
    assert contents("parts") == contents("whole")
    assert contents("whole")["responses.rejects.jsonl"].count(b"\n") == 2 + 2
    capsys.readouterr()
    assert run(["run", "recipe.toml", "-o", "parts"]) == 0
    assert [line.endswith("done before") for line in capsys.readouterr().err.splitlines()] == [True] * 5


LIMITS = [[], ["--limit", "13"], ["--part", "0.2", "0.8"], ["--part", "0.2", "0.8", "--limit", "9"]]


@pytest.mark.parametrize("taken", LIMITS)
def test_commands_by_shard_and_merged_are_as_one_run(taken: list[str]) -> None:
    generate = ["generate", "prompts.jsonl", *SCRIPTED, *taken]
    critique = ["critique", "r/responses.jsonl", *STEERED, "-o", "r/critiques.jsonl"]
    compare = ["compare", "r/responses.jsonl", "r/revisions.jsonl", *STEERED, "-o", "r/comparisons.jsonl"]
    revise = ["revise", "r/critiques.jsonl", *STEERED, "-o", "r/revisions.jsonl"]
    names = ["responses", "critiques", "revisions", "comparisons"]
    commands = [[*generate, "--samples", "2", "-o", "r/responses.jsonl"], critique, revise, compare]
    for command in commands:
        assert run(command) == 0
    whole = contents("r", names)
    Path("r").rename("whole")
    for command in commands:
        for number in (1, 2, 3):
            assert run([*command, "--shard", f"{number}/3"]) == 0
    assert run(["merge", "r"]) == 0
    assert contents("r", names) == whole


def test_shards_of_a_merged_file_are_as_those_of_shards() -> None:
    assert run(["generate", "prompts.jsonl", *SCRIPTED, "--samples", "2", "-o", "r/responses.jsonl"]) == 0
    command = ["compare", "r/responses.jsonl", *STEERED, "-o", "r/comparisons.jsonl"]
    assert run(command) == 0
    whole = contents("r", ["comparisons"])
    for number in (1, 2):
        assert run([*command, "--shard", f"{number}/2"]) == 0
    assert run(["merge", "r/comparisons.jsonl", "--redo"]) == 0
    assert contents("r", ["comparisons"]) == whole


def test_an_eval_by_shard_gets_its_numbers_from_the_whole() -> None:
    assert run(["generate", "prompts.jsonl", *SCRIPTED, "-o", "r/responses.jsonl"]) == 0
    command = ["eval", "r/responses.jsonl", "--eval", "organism", "-o", "r/table.jsonl", "--quiet"]
    for number in (1, 2):
        assert run([*command, "--shard", f"{number}/2"]) == 0
        assert "numbers" in (manifest.read(Path(f"r/table.{number}-of-2.jsonl")) or {})
    assert run(["merge", "r/table.jsonl"]) == 0
    assert "numbers" not in (manifest.read(Path("r/table.jsonl")) or {})
    assert run(command) == 0
    found = manifest.read(Path("r/table.jsonl")) or {}
    assert (found["shards"], found["counts"]["items"]) == (2, 40)
    assert found["numbers"]


def test_a_shard_that_is_broken_off_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["generate", "prompts.jsonl", *SCRIPTED, "-o", "r/responses.jsonl"]
    assert run(["generate", "prompts.jsonl", *SCRIPTED, "-o", "whole/responses.jsonl"]) == 0
    with monkeypatch.context() as patched:
        patched.setattr("cai.runs.put_in_place", interrupted)
        assert run([*command, "--shard", "1/2"]) == 130
    assert Path("r/responses.1-of-2.jsonl.partial").stat().st_size > 0
    assert run([*command, "--shard", "1/2"]) == run([*command, "--shard", "2/2"]) == 0
    assert run(["merge", "r/responses.jsonl"]) == 0
    assert contents("r", ["responses"]) == contents("whole", ["responses"])


def interrupted(*_: Any) -> None:
    raise KeyboardInterrupt


@pytest.fixture
def shards(folder: Path) -> Path:
    """r/responses.jsonl in three shards."""
    for number in (1, 2, 3):
        shard(f"{number}/3")
    return folder / "r" / "responses.jsonl"


def shard(which: str, *more: str) -> None:
    command = ["generate", "prompts.jsonl", *SCRIPTED, *more, "-o", "r/responses.jsonl", "--shard", which]
    assert run(command) == 0


KILLED = """
import os, signal, sys
from pathlib import Path
from cai.merge import merge
left, replace = int(sys.argv[1]), os.replace

def count(*paths):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    replace(*paths)

os.replace = count
merge(Path("r/responses.jsonl"))
"""


def test_a_merge_that_is_killed_anywhere_ends_alike(shards: Path) -> None:
    """Whenever a file is to be put in its place: the first manifest, rows, rejects, the last manifest."""
    assert merge(shards) and not merge(shards)
    expected, before = contents("r", ["responses"]), {path.name for path in shards.parent.iterdir()}
    for moment in range(5):
        for path in (shards, manifest.path_of(shards), manifest.rejects_of(shards)):
            path.unlink()
        done = subprocess.run([sys.executable, "-c", KILLED, str(moment)])
        assert done.returncode == (-signal.SIGKILL if moment < 4 else 0)
        assert merge(shards) == (moment < 4)
        assert contents("r", ["responses"]) == expected
        assert {path.name for path in shards.parent.iterdir()} == before


def test_a_row_of_merged_shards_is_shown_once(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["merge", "r", "--quiet"]) == 0
    rows = [*shards.read_text().splitlines(), *Path("r/responses.rejects.jsonl").read_text().splitlines()]
    for row in (rows[0], rows[-1]):
        capsys.readouterr()
        assert run(["show", "r", json.loads(row)["id"]]) == 0
        assert capsys.readouterr().out.count(".jsonl  ") == 1


def refused(capsys: pytest.CaptureFixture[str], *command: str, code: int = 1) -> str:
    capsys.readouterr()
    assert run(list(command)) == code
    return capsys.readouterr().err.removeprefix("error: ").removesuffix("\n")


def test_what_is_missing_is_named(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("r/responses.2-of-3.json").rename("x.json")
    assert refused(capsys, "merge", "r/responses.jsonl") == (
        "r/responses.jsonl: shard 2/3 is missing; make what is missing, then merge"
    )
    for number in (1, 9, 14):
        shard(f"{number}/14", "--temperature", "0.5")
    given = [f"r/responses.{number}-of-14.jsonl" for number in (1, 9, 14)]
    assert refused(capsys, "merge", "r/other.jsonl", *given) == (
        "r/other.jsonl: shards 2/14, 3/14, 4/14, 5/14, 6/14 and 6 more are missing; "
        "make what is missing, then merge"
    )
    assert refused(capsys, "merge", "r/other.jsonl") == (
        "r/other.jsonl: there is no shard of it here (none is called other.1-of-N.jsonl or so); "
        "make them with --shard, or give their files"
    )
    assert refused(capsys, "merge", "r/other.jsonl", "r/nowhere.jsonl") == (
        "r/nowhere.jsonl: there is no such file; give .jsonl files that were made with --shard"
    )


def test_what_is_no_shard_is_named(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, "merge", "out.jsonl", "prompts.jsonl") == (
        "prompts.jsonl: cai did not make this file; give .jsonl files that were made with --shard"
    )
    assert run(["generate", "prompts.jsonl", *SCRIPTED, "-o", "r/whole.jsonl"]) == 0
    assert refused(capsys, "merge", "out.jsonl", "r/whole.jsonl") == (
        "r/whole.jsonl: this is no shard; give .jsonl files that were made with --shard"
    )
    Path("empty").mkdir()
    assert refused(capsys, "merge", "empty", code=2) == (
        "empty: there is no shard in this folder; make them with --shard"
    )
    assert refused(capsys, "merge", "r", "r/whole.jsonl", code=2) == (
        "r: a folder takes no shards beside it; give a .jsonl file"
    )


def test_an_unfinished_shard_is_named(
    shards: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["generate", "prompts.jsonl", *SCRIPTED, "-o", "r/responses.jsonl", "--shard", "2/3", "--redo"]
    with monkeypatch.context() as patched:
        patched.setattr("cai.runs.put_in_place", interrupted)
        assert run(command) == 130
    assert refused(capsys, "merge", "r/responses.jsonl") == (
        "r/responses.2-of-3.jsonl: shard 2/3 is not finished; run the command that makes it again"
    )
    shard("2/3")
    Path("r/responses.2-of-3.places").unlink()
    assert refused(capsys, "merge", "r/responses.jsonl") == (
        "r/responses.2-of-3.jsonl: 'responses.2-of-3.places' of shard 2/3 is gone; "
        "run the command that makes it again"
    )


def test_overlaps_are_named(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shard("1/2")
    assert refused(capsys, "merge", "r/responses.jsonl") == (
        "r/responses.1-of-3.jsonl: this is shard 1/3, and r/responses.1-of-2.jsonl is shard 1/2; "
        "give shards of one number"
    )
    given = [f"r/responses.{number}-of-3.jsonl" for number in (1, 2, 3)]
    assert refused(capsys, "merge", "r/responses.jsonl", *given, given[1]) == (
        f"{given[1]}: this is shard 2/3, and so is {given[1]}; leave one out"
    )
    assert run(["merge", "r/responses.jsonl", *given]) == 0


def test_mixed_identities_are_named(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shard("3/3", "--temperature", "0.5", "--redo")
    assert refused(capsys, "merge", "r/responses.jsonl") == (
        "r/responses.3-of-3.jsonl: was made with other settings (stage temperature: 1.0 -> 0.5) than "
        "r/responses.1-of-3.jsonl; make the one that is wrong anew, with --redo"
    )
    shard("3/3", "--redo")
    Path("prompts.jsonl").write_text(Path("prompts.jsonl").read_text() + '{"prompt": "new"}\n')
    shard("3/3", "--redo")
    assert refused(capsys, "merge", "r/responses.jsonl") == (
        "r/responses.3-of-3.jsonl: was made with other inputs (inputs changed) than "
        "r/responses.1-of-3.jsonl; make the one that is wrong anew, with --redo"
    )


@pytest.mark.parametrize("end", ["jsonl", "rejects.jsonl", "places"])
def test_a_changed_file_is_named(shards: Path, capsys: pytest.CaptureFixture[str], end: str) -> None:
    path = Path(f"r/responses.1-of-3.{end}")
    path.write_bytes(path.read_bytes().replace(b"1", b"2", 1))
    before = {path.name for path in shards.parent.iterdir()}
    assert refused(capsys, "merge", "r/responses.jsonl") == (
        f"{path}: this file was changed after cai made it; make shard 1/3 anew, with --redo"
    )
    assert {path.name for path in shards.parent.iterdir()} - before == {"responses.json"}


def test_a_merged_file_of_another_making_stays(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generate = ["generate", "prompts.jsonl", *SCRIPTED, "--seed", "5", "-o", "r/responses.jsonl"]
    assert run(generate) == 0
    assert refused(capsys, "merge", "r/responses.jsonl") == (
        "r/responses.jsonl was made with other settings (stage seed: 5 -> 0); "
        "start a new run, or --redo (of cai run: --redo responses)"
    )
    assert run(["merge", "r/responses.jsonl", "--redo"]) == 0
    Path("r/responses.json").unlink()
    assert refused(capsys, "merge", "r/responses.jsonl") == (
        "r/responses.jsonl: cai did not make this file; give another output, or move that file away"
    )


def test_a_shard_is_made_of_shards_while_there_are_some_of_the_same_making(shards: Path) -> None:
    command = ["critique", "r/responses.jsonl", *STEERED, "-o", "r/critiques.jsonl", "--shard"]
    assert run([*command, "1/3"]) == run([*command, "2/3"]) == 0
    assert run(["merge", "r/responses.jsonl"]) == run([*command, "3/3"]) == 0
    assert run(["merge", "r/critiques.jsonl"]) == 0
    generate = ["generate", "prompts.jsonl", *SCRIPTED, "--seed", "5", "-o", "r/responses.jsonl", "--redo"]
    assert run(generate) == 0
    assert run([*command, "3/3", "--redo"]) == 0
    whole, part = (manifest.read(Path(f"r/{name}.jsonl")) or {} for name in ("responses", "critiques.3-of-3"))
    assert part["identity"]["inputs"] == [whole["fingerprint"]]


def test_shards_of_files_and_of_shards_are_not_mixed(
    shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["critique", "r/responses.jsonl", *STEERED, "-o", "r/critiques.jsonl", "--shard"]
    assert run([*command, "1/3"]) == run([*command, "2/3"]) == run(["merge", "r/responses.jsonl"]) == 0
    Path("r/responses.3-of-3.jsonl").unlink()
    assert run([*command, "3/3"]) == 0
    assert refused(capsys, "merge", "r/critiques.jsonl") == (
        "r/critiques.3-of-3.jsonl: one of this and r/critiques.2-of-3.jsonl was made of a whole file, the "
        "other of a shard's; make both of files of one kind, with --redo"
    )


def test_another_shard_s_file_is_refused(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["critique", "r/responses.1-of-3.jsonl", *STEERED, "-o", "r/critiques.jsonl"]
    assert refused(capsys, *command, "--shard", "2/3") == (
        "r/responses.1-of-3.jsonl: this is shard 1/3, not 2/3; give the file's name without the shard in it"
    )
    assert run([*command, "--shard", "1/3"]) == 0
    assert run([*command[:-1], "r/alone.jsonl"]) == 0
    assert Path("r/alone.jsonl").read_bytes() == Path("r/critiques.1-of-3.jsonl").read_bytes()


def test_a_limit_on_a_shard_s_rows_is_refused(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["critique", "r/responses.jsonl", *STEERED, "-o", "r/critiques.jsonl", "--shard", "1/3"]
    assert refused(capsys, *command, "--limit", "2", code=2) == (
        "--limit: 'limit' counts the rows of all shards, and this reads one shard's; "
        "set it where the requests are read"
    )
    Path("recipe.toml").write_text(RECIPE.replace('stage = "revise"', 'stage = "revise"\nlimit = 3'))
    assert refused(capsys, "run", "recipe.toml", "--shard", "1/3") == (
        "recipe.toml [steps.3]: 'limit' counts the rows of all shards, and this reads one shard's; "
        "set it where the requests are read"
    )


def test_training_is_not_sharded(capsys: pytest.CaptureFixture[str]) -> None:
    training = '[[steps]]\nname = "sl-cai"\ntrain = "sft"\nmodel = "start"\n'
    Path("recipe.toml").write_text(RECIPE + training)
    assert refused(capsys, "run", "recipe.toml", "--shard", "1/3") == (
        "recipe.toml [steps.6]: 'sl-cai' trains, which takes the rows of all shards; make what it reads by "
        "shard with the single commands, cai merge it, then cai run without --shard"
    )


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "one/two"])
def test_what_is_no_shard_s_number_is_a_usage_error(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["generate", "prompts.jsonl", *SCRIPTED, "-o", "r/a.jsonl", "--shard", text]
    assert refused(capsys, *command, code=2) == (
        f"Invalid value for '--shard': '{text}' is no shard; write I/N, with I from 1 to N; "
        "see 'cai generate --help'"
    )


@settings(max_examples=15)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=25), st.integers(1, 6))
def test_any_requests_in_any_number_of_shards(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[int], of: int
) -> None:
    folder = tmp_path_factory.mktemp("any")
    requests = folder / "prompts.jsonl"
    requests.write_text("".join(json.dumps(f"request {number}") + "\n" for number in numbers))
    whole, parts = folder / "whole.jsonl", folder / "parts.jsonl"
    command = ["generate", str(requests), *SCRIPTED]
    assert run([*command, "-o", str(whole)]) == 0
    for number in range(1, of + 1):
        assert run([*command, "-o", str(parts), "--shard", f"{number}/{of}"]) == 0
    assert merge(parts)
    assert parts.read_bytes() == whole.read_bytes()
