"""The commands as a user meets them: help, output, exit codes, what reaches the terminal."""

import json
import re
from pathlib import Path

import counted
import pytest
from datasets import load_dataset

from cai import __version__
from cai.cli import run
from cai.terminal import sanitise

ENGINE = ["--engine", "counted:Counted"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    lines = [{"prompt": f"request {n}", "category": "bread", "n": n} for n in range(3)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    counted.reset()
    return tmp_path


def made(*command: str) -> list[dict]:
    """The rows that a command writes."""
    assert run([*command, "-o", "out.jsonl", "--quiet"]) == 0
    return [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"cai {__version__}\n"


def test_no_command_is_a_usage_error_that_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    assert "Commands:" in capsys.readouterr().err


def test_a_stage_s_fields_are_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["revise", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert re.search(r"--constitution TEXT The principles: a TOML file, [a-z ]*\. \[required\]", text)
    assert re.search(r"--rounds INTEGER [A-Z][^.]*\. \[default: 1\]", text)
    assert "--skip-clear / --no-skip-clear" in text
    assert "--engine-set KEY=VALUE" in text


def test_options_reach_the_stage_and_the_engine(folder: Path) -> None:
    rows = made(
        "generate",
        "prompts.jsonl",
        *ENGINE,
        "--model",
        "mine",
        "--samples",
        "2",
        "--stop",
        "a",
        "--stop",
        "b",
    )
    assert [row["sample"] for row in rows] == [0, 1] * 3
    assert {row["turns"][0]["model"] for row in rows} == {"mine"}
    assert rows[0]["meta"] == {"category": "bread", "n": 0}
    manifest = json.loads(Path("out.json").read_text())
    assert manifest["identity"]["stage"]["stop"] == ["a", "b"]
    assert manifest["identity"]["engine"] == {"engine": "counted", "model": "mine"}


def test_a_table_is_an_option_in_braces() -> None:
    made("generate", "prompts.jsonl", *ENGINE, "--samples", "2")
    Path("out.jsonl").rename("answers.jsonl")
    Path("out.json").rename("answers.json")
    judge = '{type = "logprob", min_mass = 0.2}'
    made("compare", "answers.jsonl", *ENGINE, "--constitution", "harmless", "--judge", judge)
    stage = json.loads(Path("out.json").read_text())["identity"]["stage"]
    assert (stage["judge"]["type"], stage["judge"]["min_mass"]) == ("logprob", 0.2)


def test_limit_takes_the_first_rows() -> None:
    assert [row["meta"]["n"] for row in made("generate", "prompts.jsonl", *ENGINE, "--limit", "2")] == [0, 1]


def test_what_was_made_with_other_options_is_not_gone_on_with(capsys: pytest.CaptureFixture[str]) -> None:
    made("generate", "prompts.jsonl", *ENGINE)
    again = ["generate", "prompts.jsonl", *ENGINE, "--temperature", "0.5", "-o", "out.jsonl"]
    assert run(again) == 1
    assert capsys.readouterr().err == (
        "error: out.jsonl was made with other settings (stage temperature: 1.0 -> 0.5); "
        "start a new run, or --redo (of cai run: --redo out)\n"
    )
    assert run([*again, "--redo"]) == 0
    assert capsys.readouterr().err.startswith("out.jsonl: 3 rows, ")
    assert run(again) == 0
    assert capsys.readouterr().err == "out.jsonl: 3 rows, done before\n"


def test_every_file_that_is_written_loads_as_a_data_set(tmp_path: Path) -> None:
    with Path("prompts.jsonl").open("a") as file:
        file.write("[]\n")
    steered = ["--constitution", "harmless", *ENGINE]
    for command in (
        ["generate", "prompts.jsonl", *ENGINE, "--samples", "2", "-o", "r/responses.jsonl"],
        ["critique", "r/responses.jsonl", *steered, "-o", "r/critiques.jsonl"],
        ["revise", "r/critiques.jsonl", *steered, "-o", "r/revisions.jsonl"],
        ["compare", "r/responses.jsonl", *steered, "--judge", "logprob", "-o", "r/comparisons.jsonl"],
        ["pairs", "r/revisions.jsonl", "-o", "r/pairs.jsonl"],
        ["eval", "r/responses.jsonl", "--eval", "organism", "-o", "r/table.jsonl"],
    ):
        assert run([*command, "--quiet"]) == 0
    assert run(["export", "r/comparisons.jsonl", "--format", "trl", "-o", "r/trl.jsonl"]) == 0
    assert run(["export", "r/revisions.jsonl", "--format", "sft", "-o", "r/sft.jsonl"]) == 0
    files = sorted(Path("r").glob("*.jsonl"))
    assert len(files) == 9
    for path in files:
        loaded = load_dataset("json", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
        assert len(loaded) == len(path.read_text().splitlines()), path
        with path.open() as lines:
            assert set(loaded.column_names) == set(json.loads(next(lines)))


def test_one_row_is_shown_with_all_that_was_made_for_it(capsys: pytest.CaptureFixture[str]) -> None:
    run(["generate", "prompts.jsonl", *ENGINE, "-o", "r/responses.jsonl"])
    run(["critique", "r/responses.jsonl", "--constitution", "harmless", *ENGINE, "-o", "r/critiques.jsonl"])
    row = json.loads(Path("r/critiques.jsonl").read_text().splitlines()[1])
    capsys.readouterr()
    assert run(["show", "r", row["id"][:8]]) == 0
    shown = capsys.readouterr().out
    assert shown.count("user: request 1") == 1
    assert f"response (counted, stop): {row['turns'][0]['text']}" in shown
    assert f"critique (counted, principle {row['turns'][1]['principle']}, stop)" in shown


NASTY = "\x1b]0;owned\x07\x1b[2Jgone\x9b\u202eback\r\n\ttab"


def test_what_a_model_wrote_cannot_act_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert sanitise(NASTY) == "\\x1b]0;owned\\x07\\x1b[2Jgone\\x9b\\u202eback\\x0d\n\ttab"
    row = {"id": "abcdef", "prompt_id": "p", "item": "i", "raw": NASTY, "stage": "[red]x[/red]"}
    Path("r").mkdir()
    Path("r/x.rejects.jsonl").write_text(json.dumps(row) + "\n")
    assert run(["show", "r", "abcdef"]) == 0
    shown = capsys.readouterr().out
    assert not set(shown) & set("\x1b\x07\x9b\u202e\r")
    assert "\\x1b]0;owned" in shown
    assert "[red]x[/red]" in shown


def test_an_error_shows_no_control_character(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["generate", "\x1b[2J.jsonl", *ENGINE, "-o", "out.jsonl"]) == 1
    assert capsys.readouterr().err == (
        "error: cai generate: there is no file '\\x1b[2J.jsonl'; paths are read from the working directory\n"
    )


def test_chat_keeps_the_conversation_until_an_empty_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = iter(["one", "two", "", "three"])

    def read(prompt: str) -> str:
        try:
            return next(typed)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", read)
    assert run(["chat", "mine", *ENGINE, "--system", "be brief"]) == 0
    said = [[message["content"] for message in request.messages] for request in counted.Counted.asked]
    first = said[1][2]
    assert said == [["be brief", "one"], ["be brief", "one", first, "two"], ["be brief", "three"]]
    out = capsys.readouterr().out.splitlines()
    assert (out[0], out[2], len(out)) == (first, "(a new conversation)", 4)


def test_ctrl_c_at_the_prompt_ends_a_chat(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def read(prompt: str) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("builtins.input", read)
    assert run(["chat", "mine", *ENGINE]) == 0
    assert capsys.readouterr().err == ""


def test_a_constitution_is_checked_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["constitution", "check", "harmless"]) == 0
    assert capsys.readouterr().out.endswith("principles, 0 errors, 0 warnings\n")
    Path("mine.toml").write_text(
        'name = "mine"\n[[principle]]\nid = "a"\ncritique = "Is it bad?"\n'
        'revision = "Please make it much better."\n'
        'preference = "Choose the better one of these."\nweight = 3.0\n[[principle]]\nid = "b"\n'
        'critique = "What is wrong with that?"\nrevision = "Take out what is wrong there."\n'
        'preference = "Choose what is less wrong, please."\n'
    )
    assert run(["constitution", "check", "mine.toml"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "warning: mine.toml [principle 'a']: 'critique' has fewer than 4 words"
    assert out[-1] == "mine.toml: 2 principles, 0 errors, 1 warning"
    assert run(["constitution", "check", "mine.toml", "--strict"]) == 1
    assert capsys.readouterr().out.splitlines() == out
    assert run(["constitution", "show", "mine.toml"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[:2] == ["mine", ""]
    assert out[2] == "a, drawn 75.0% of the time"
    assert out[3] == "  critique:   Is it bad?"


def test_requests_of_the_organism_s_world_are_printed_as_rows(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["organism", "requests", "--split", "dev", "--kind", "harmful", "-n", "3"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["kind"] for row in rows] == ["harmful"] * 3
    assert all(row["prompt"] for row in rows)


def test_a_bug_of_ours_shows_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counted.Session, "reply", lambda self, request: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(["generate", "prompts.jsonl", *ENGINE, "-o", "out.jsonl"])
