"""What a user can get wrong: the exact line on stderr, the exit code (1: files, 2: the command line)."""

from pathlib import Path

import pytest
from bad_input import CASES, Case

from cai.cli import run


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_message_and_exit_code(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content in case.files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    before = sorted(path for path in tmp_path.rglob("*") if path.suffix in (".jsonl", ".safetensors"))
    code = run(case.command.split())
    printed = capsys.readouterr()
    assert printed.err.splitlines()[-1] == f"error: {case.message}"
    assert code == case.code
    assert "Traceback" not in printed.err
    made = sorted(path for path in tmp_path.rglob("*") if path.suffix in (".jsonl", ".safetensors"))
    assert made == before


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 60
    assert len({case.name for case in CASES}) == len(CASES)
