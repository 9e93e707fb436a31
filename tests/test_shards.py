"""Shards of real stages on the scripted engine: each prompt in one of them, and merged as if never parted."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sharding import RECIPE, SCRIPTED, STEERED, contents, interrupted, refused, requests_in

from cai import manifest
from cai.cli import run
from cai.merge import merge
from cai.records import digest
from cai.shards import Shard, name_of, path_of, shard_from, whole_of


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return requests_in(tmp_path, monkeypatch)


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
