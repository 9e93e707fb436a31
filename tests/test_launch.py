"""Several processes learn what one does; a worker never outlives its parent."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny
import torch
from driving import answered
from test_loop import SETTINGS, rows, weights
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from cai.errors import CaiError
from cai.objectives.dpo import Dpo
from cai.objectives.sft import Sft
from cai.records import to_row, user
from cai.training.data import Preference
from cai.training.launch import launch
from cai.training.settings import TrainSettings
from cai.training.workers import _death

PAIRS = [
    Preference(id=f"p{at}", prompt=(user("hi"),), a="yes" * (1 + at % 3), b="no" * (1 + at % 4), p_a=0.8)
    for at in range(10)
]


def run(objective, data, folder, processes, **changes):
    fields = {"lr": 1e-2, "epochs": 1, "batch_size": 5, "accumulate": 1, "processes": processes, **changes}
    model = tiny.model()
    seen = []
    summary = launch(
        objective,
        model,
        data,
        TrainSettings(**fields),
        folder,
        report=lambda step, total, _: seen.append(step),
    )
    assert seen == list(range(1, summary.steps + 1))
    return weights(model)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_two_processes_learn_what_one_does(tmp_path, kind):
    objective = Sft() if kind == "sft" else Dpo()
    data = rows(10) if kind == "sft" else objective.prepare(PAIRS, tiny.tokenizer(), 128)
    one = run(objective, data, tmp_path / "one", 1)
    two = run(objective, data, tmp_path / "two", 2)
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-5)
    logs = [
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    assert [row["tokens"] for row in logs[0]] == [row["tokens"] for row in logs[1]]
    assert [row["loss"] for row in logs[0]] == pytest.approx([row["loss"] for row in logs[1]], rel=1e-4)


@pytest.mark.slow
def test_an_error_in_the_processes_reaches_the_caller(tmp_path):
    run(Sft(), rows(10), tmp_path, 2)
    with pytest.raises(CaiError) as caught:
        run(Sft(), rows(10), tmp_path, 2, lr=1e-3)
    assert str(caught.value) == (
        f"{tmp_path}: a training run with other settings stopped here (lr changed); "
        "restore them to go on, or delete the folder to start anew"
    )


FOR_LONG = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
import tiny
from test_loop import Sft, TrainSettings, rows
from cai.training.launch import launch
if __name__ == "__main__":
    settings = TrainSettings(lr=1e-3, steps=100_000, batch_size=3, accumulate=2, processes=2)
    launch(Sft(), tiny.model(), rows(), settings, Path({folder!r}))
"""


@pytest.mark.slow
def test_workers_die_with_their_parent(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(FOR_LONG.format(tests=str(Path(__file__).parent), folder=str(tmp_path)))
    log = tmp_path / "metrics.jsonl"
    with subprocess.Popen([sys.executable, str(script)], stderr=subprocess.DEVNULL) as parent:
        while not (log.is_file() and log.stat().st_size):
            assert parent.poll() is None
            time.sleep(0.1)
        parent.kill()
    time.sleep(1.0)
    size = log.stat().st_size
    time.sleep(0.5)
    assert log.stat().st_size == size


def test_processes_need_the_cpu(tmp_path):
    class Elsewhere:
        device = torch.device("meta")

    settings = TrainSettings(epochs=1, batch_size=1, processes=2)
    with pytest.raises(CaiError) as caught:
        launch(Sft(), Elsewhere(), rows(), settings, tmp_path)
    assert str(caught.value) == "processes = 2 needs the CPU, and the model is on 'meta'; set processes = 1"


def test_a_tiny_model_uses_one_thread(tmp_path):
    launch(Sft(), tiny.model(), rows(), SETTINGS, tmp_path)
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ((1, -9, -15), "training process 1 died (SIGKILL)"),
        ((-15, 0, 3), "training process 2 died (exit code 3)"),
    ],
)
def test_the_process_that_died_is_named(codes, message):
    failure = ProcessExitedException("it died", error_index=2, error_pid=7, exit_code=3)
    error = _death([SimpleNamespace(exitcode=code) for code in codes], failure)
    assert str(error) == f"{message}; run the command again to go on from the last checkpoint"


def test_what_a_process_raises_is_raised():
    failure = ProcessRaisedException("a traceback", error_index=0, error_pid=7)
    assert _death([SimpleNamespace(exitcode=1), SimpleNamespace(exitcode=-15)], failure) is failure


@pytest.mark.slow
def test_an_interrupt_while_processes_start_is_one_line(tmp_path):
    """Ctrl-C goes to every process of the group: to the one that workers are forked from, and to them."""
    tiny.folder(tmp_path / "tiny")
    made = [to_row(answered("yes", request=f"request {at}")) for at in range(8)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
    lengths = ["--nproc", "2", "--steps", "100000", "--batch-size", "4"]
    command = [sys.executable, "-m", "cai", "train", "sft", "rows.jsonl", "--model", "./tiny", "-o", "out"]
    for delay in (0.0, 0.5, 2.0, 3.0, 5.0):
        with subprocess.Popen(
            [*command, *lengths],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as parent:
            while not forking(parent.pid):
                assert parent.poll() is None
                time.sleep(0.02)
            time.sleep(delay)
            os.killpg(parent.pid, signal.SIGINT)
            # To the end of what any of the processes may write.
            said = parent.communicate(timeout=60)[1]
        # The line after the ^C that a terminal shows is left to it.
        assert said == "\nerror: interrupted; the same command (without --redo) goes on from here\n", delay
        assert parent.returncode == 130


def forking(parent: int) -> bool:
    """Whether a process has started the one that its workers are forked from."""
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            started = int((path / "stat").read_text().rpartition(")")[2].split()[1]) == parent
            if started and b"multiprocessing.forkserver" in (path / "cmdline").read_bytes():
                return True
    return False
