"""cai merge of real shards: killed anywhere, and what it refuses."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sharding import RECIPE, SCRIPTED, STEERED, contents, interrupted, refused, requests_in, shard

from cai import manifest
from cai.cli import run
from cai.merge import merge


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return requests_in(tmp_path, monkeypatch)


@pytest.fixture
def shards(folder: Path) -> Path:
    """r/responses.jsonl in three shards."""
    for number in (1, 2, 3):
        shard(f"{number}/3")
    return folder / "r" / "responses.jsonl"


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
