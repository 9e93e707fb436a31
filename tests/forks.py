"""Processes to be killed, forked from one that has everything imported: a script that calls `serve`."""

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


class Nursery:
    """The process that forks."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdin is not None and process.stdout is not None
        self._ask: IO[str] = process.stdin
        self._answers: IO[str] = process.stdout
        assert self._answers.readline() == "ready\n"

    def run(self, **job: Any) -> int:
        """The exit status of a job, negative for a signal. Its `life` is a key of it: seconds, or None."""
        print(json.dumps(job), file=self._ask, flush=True)
        return int(self._answers.readline())


@contextmanager
def nursery_of(script: str, *arguments: str) -> Iterator[Nursery]:
    """The nursery of a script in the tests' folder."""
    command = [sys.executable, str(Path(__file__).with_name(script)), *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        yield Nursery(process)


def serve(work: Callable[[dict[str, Any]], int]) -> None:
    """Answer each job (a line of JSON on stdin) with the exit status of a forked child that does `work`."""
    print("ready", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                status = work(job)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        if job["life"] is not None:
            time.sleep(job["life"])
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
