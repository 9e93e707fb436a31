"""Claims: nobody writes an output that another writes, and what a killed process held is free."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from test_runs import make

from cai.errors import CaiError
from cai.runs import discard, is_complete, open_output

HOLD = """
import sys, time
from pathlib import Path
from cai.runs import open_output
output = open_output(Path(sys.argv[1]), {})
print("held", flush=True)
time.sleep(60)
"""


def test_two_processes_never_write_the_same_output(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        expected = (
            f"{path} is being written by another process (pid {other.pid}); wait until it is done, or stop it"
        )
        for attempt in (lambda: open_output(path, {}), lambda: discard(path)):
            with pytest.raises(CaiError) as error:
                attempt()
            assert str(error.value) == expected
        other.kill()
    # What a killed process held is free again.
    make(path, {})
    assert is_complete(path, {})


FORK = """
import os, sys, time
from pathlib import Path
from cai.runs import open_output
output = open_output(Path(sys.argv[1]), {})
child = os.fork()
if child == 0:
    time.sleep(60)
print(child, flush=True)
time.sleep(60)
"""


def test_a_child_that_outlives_a_killed_process_does_not_hold_its_claim(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with subprocess.Popen(
        [sys.executable, "-c", FORK, str(path)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        child = int(other.stdout.readline())
        other.kill()
        other.wait()
        try:
            make(path, {})
        finally:
            os.kill(child, signal.SIGKILL)


def test_one_process_does_not_write_an_output_twice_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    output = open_output(path, {})
    assert output is not None
    with pytest.raises(RuntimeError, match="is being written by this process already"):
        open_output(path, {})
    output.close()
    make(path, {})
