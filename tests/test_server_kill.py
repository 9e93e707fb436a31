"""Endpoints killed with SIGKILL under load: nothing is lost, nothing is there twice, no row differs."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from http_stub import MODEL, serving
from kill_job import CHAIN, stages

from cai import config
from cai.engines.server import Server
from cai.pipeline import Link, run
from cai.rows import items_for

PAUSE = 0.1  # seconds that a killed endpoint stays away


class Process:
    """An endpoint in a process of its own, that is born again whenever it is killed."""

    def __init__(self, port: int) -> None:
        script = str(Path(__file__).with_name("http_stub.py"))
        command = [sys.executable, script, str(port), "0.01", str(PAUSE)]
        self._parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.url = f"http://127.0.0.1:{port}/v1"
        self._wait()

    def kill(self) -> None:
        os.kill(self._child, signal.SIGKILL)
        self._wait()

    def end(self) -> None:
        self._parent.kill()
        self._parent.wait()
        os.kill(self._child, signal.SIGKILL)
        assert self._parent.stdout is not None
        self._parent.stdout.close()

    def _wait(self) -> None:
        assert self._parent.stdout is not None
        self._child = int(self._parent.stdout.readline().split()[0])


@contextmanager
def processes(count: int) -> Iterator[list[Process]]:
    with ExitStack() as stack:
        free = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in free:
            one.bind(("127.0.0.1", 0))
        ports = [one.getsockname()[1] for one in free]
    with ExitStack() as stack:
        made = [Process(port) for port in ports]
        for process in made:
            stack.callback(process.end)
        yield made


def work(folder: Path, engine: Server) -> dict[str, bytes]:
    """The real stages over the prompts beside `folder`; all rows and rejects, byte for byte."""
    session = engine.open()
    made = stages(())
    links = {
        name: Link(
            stage=stage,
            path=folder / f"{name}.jsonl",
            identity={"stage": config.identity(stage), "engine": engine.identity()},
            session=lambda: session,
        )
        for name, stage in made.items()
    }
    try:
        source = items_for(made["responses"], [folder.parent / "prompts.jsonl"])
        run([links[name] for name in CHAIN], source)
        run([links["comparisons"]], items_for(made["comparisons"], [folder / "screened.jsonl"]))
    finally:
        session.close()
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.jsonl"))}


def prompts(folder: Path, count: int) -> None:
    rows = [{"prompt": f"Question {number}?"} for number in range(count)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize(("kills", "count"), [(3, 10), pytest.param(100, 40, marks=pytest.mark.slow)])
def test_killed_endpoints_change_nothing(
    kills: int, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cai.engines._server_pool.FIRST_PAUSE", 0.02)
    monkeypatch.setattr("cai.engines._server_pool.LONGEST_PAUSE", 0.1)
    prompts(tmp_path, count)
    with serving() as stub:
        expected = work(tmp_path / "unbroken", Server(model=MODEL, endpoints=(stub.url,), concurrency=8))
    asked = len(stub.asked)
    assert len(expected["revisions.jsonl"].splitlines()) == 2 * count and expected["comparisons.jsonl"]

    drawn, done, runs = random.Random(kills), 0, 0
    with processes(2) as endpoints:
        engine = Server(model=MODEL, endpoints=tuple(one.url for one in endpoints), concurrency=4)
        while done < kills:
            stop = threading.Event()

            def killer(stop: threading.Event = stop) -> None:
                nonlocal done
                while not stop.wait(drawn.uniform(0.02, 0.3)):
                    drawn.choice(endpoints).kill()
                    done += 1

            thread = threading.Thread(target=killer)
            thread.start()
            try:
                found = work(tmp_path / f"run-{runs}", engine)
            finally:
                stop.set()
                thread.join()
            assert found == expected
            runs += 1
    print(f"{done} kills over {runs} runs of {asked} requests")


def test_a_run_whose_endpoints_die_for_good_goes_on_with_others(tmp_path: Path) -> None:
    prompts(tmp_path, 20)
    with serving() as stub:
        other = Server(model=MODEL, endpoints=(stub.url,), concurrency=8)
        expected = work(tmp_path / "unbroken", other)
        before = len(stub.asked)
        with processes(1) as [endpoint]:
            doomed = Server(model=MODEL, endpoints=(endpoint.url,), concurrency=4, patience=0.5)
            threading.Timer(0.4, endpoint.end).start()
            with pytest.raises(config.CaiError, match="no endpoint has answered"):
                work(tmp_path / "broken", doomed)
            endpoint.end = lambda: None  # type: ignore[method-assign]
        assert work(tmp_path / "broken", other) == expected
        assert len(stub.asked) < 2 * before
