"""How far a run is: the arithmetic, a log's lines, a terminal's bars, and what another process can see."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pseudo_terminal import PATIENCE, Terminal

from cai import progress, trained
from cai.claim import Claim, holder_of
from cai.cli import run
from cai.pace import WINDOW, Course, Pace, Standing, duration, items_expected
from cai.pipeline import Progress
from cai.rows import WHOLE
from cai.shards import Shard
from cai.stages.compare import Compare
from cai.stages.generate import Generate
from cai.steps import StageStep
from cai.training.checkpoint import METRICS
from cai.training.files import work_folder

TESTS = Path(__file__).parent


class Clock:
    """Seconds that pass when they are told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_pace_is_that_of_the_last_minute() -> None:
    clock = Clock()
    pace = Pace(clock=clock)
    assert pace.left(0, 100) is None
    clock.now = 10.0
    # 5 items in 10 seconds; 95 more take 190.
    assert pace.left(5, 95) == pytest.approx(190)
    # Then nothing for long, and at last ten times as fast: what was before the window counts no more.
    for seconds in range(1, 2 * int(WINDOW)):
        clock.now = 10.0 + seconds
        left = pace.left(5 + 5 * seconds, 100)
    assert left == pytest.approx(20)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (59, "59 s"), (61, "1 min"), (3600, "1 h 0 min"), (4900, "1 h 21 min")],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def step(path: Path, stage: object, name: str = "out", **how: object) -> StageStep:
    return StageStep(
        name=name,
        kind="x",
        stage=stage,  # type: ignore[arg-type]
        engine=None,
        inputs=(path,),
        output=path.with_name(f"{name}.jsonl"),
        **how,  # type: ignore[arg-type]
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with 12 requests and three answers to each."""
    monkeypatch.chdir(tmp_path)
    Path("prompts.jsonl").write_text("".join(f'{{"prompt": "request {n}"}}\n' for n in range(12)))
    command = ["generate", "prompts.jsonl", "--engine", "scripted", "--samples", "3"]
    assert run([*command, "-o", "x/answers.jsonl", "--quiet"]) == 0
    return tmp_path


def test_items_to_come_are_counted_in_the_inputs(folder: Path) -> None:
    prompts, answers = Path("prompts.jsonl"), Path("x/answers.jsonl")
    assert items_expected(step(prompts, Generate())) == 12
    assert items_expected(step(answers, Generate())) == 36
    assert items_expected(step(prompts, Generate(), limit=5)) == 5
    assert items_expected(step(prompts, Generate(), part=(0.25, 0.75))) == 6
    assert items_expected(step(prompts, Generate(), part=WHOLE, shard=Shard(1, 4))) == 3
    # A stage that groups has an item a prompt.
    grouping = Compare.__new__(Compare)
    assert items_expected(step(answers, grouping)) == 12
    # Without a manifest the lines are counted.
    Path("x/answers.json").unlink()
    assert items_expected(step(answers, Generate())) == 36


def told(name: str, items: int, rows: int, fresh: int | None = None) -> Progress:
    made = items if fresh is None else fresh
    return Progress(name=name, items=items, rows=rows, rejects=0, tokens=10, fresh=made, speed=1234.5)


def test_a_link_has_to_do_what_the_one_before_it_will_make(folder: Path) -> None:
    clock = Clock()
    first = step(Path("prompts.jsonl"), Generate(), "a")
    course = Course([first, step(first.output, Generate(), "b")], clock)
    course.standings([told("a", 2, 4), told("b", 1, 1)])
    clock.now = 4.0
    one, other = course.standings([told("a", 6, 12), told("b", 3, 3)])
    assert (one.done, one.total, one.left) == (6, 12, pytest.approx(6.0))
    # Two rows come of each item, so there will be 24; 2 items took 4 seconds.
    assert (other.done, other.total, other.left) == (3, 24, pytest.approx(42.0))
    assert one.facts == ("12 rows", "1,234 tokens/s")
    assert other.facts == ("1,234 tokens/s",)


def test_what_an_earlier_process_made_is_done_but_sets_no_pace(folder: Path) -> None:
    clock = Clock()
    course = Course([step(Path("prompts.jsonl"), Generate(), "a")], clock)
    course.standings([told("a", 0, 0, fresh=0)])
    clock.now = 1.0
    [one] = course.standings([told("a", 10, 10, fresh=2)])
    assert (one.done, one.left) == (10, pytest.approx(1.0))


def test_a_line_of_a_log() -> None:
    standing = Standing(name="a", done=412, total=1250, left=200.0, facts=("2 rejects", "1,204 tokens/s"))
    assert progress.in_a_line(standing) == "a: 412 of 1,250, 2 rejects, 1,204 tokens/s, 3 min left"
    assert progress.in_a_line(Standing(name="a", done=3)) == "a: 3"


@pytest.fixture
def slow(folder: Path) -> list[str]:
    """The arguments of a run of some seconds."""
    Path("many.jsonl").write_text("".join(f'{{"prompt": "request {n}"}}\n' for n in range(60)))
    return ["generate", "many.jsonl", "--engine", "slow:Slow", "-o", "x/slow.jsonl"]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(TESTS), **more}


LOGGING = "import sys; from cai import cli, progress; progress.LOG_EVERY = 0.7; sys.exit(cli.run())"


def test_a_log_has_plain_lines(folder: Path, slow: list[str]) -> None:
    program = [sys.executable, "-c", LOGGING, *slow]
    done = subprocess.run(program, capture_output=True, text=True, check=True, env=environment())
    first, *others, last = done.stderr.splitlines()
    assert first.startswith("slow: ") and " of 60, " in first and first.endswith(" s left")
    assert others and "tokens/s" in others[-1]
    assert last.startswith("x/slow.jsonl: 60 rows, ") and "\x1b" not in done.stderr and not done.stdout
    quiet = subprocess.run(
        [*program, "--redo", "--quiet"], capture_output=True, env=environment(), check=True
    )
    assert (quiet.stdout, quiet.stderr) == (b"", b"")


def test_a_terminal_has_bars(folder: Path, slow: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    terminal = Terminal(*slow, folder=folder, columns=110)
    shown = terminal.read_until("s left")
    assert "slow" in shown and " of 60" in shown and "tokens/s" in shown and "━" in shown
    terminal.read_until("x/slow.jsonl: 60 rows, ")
    assert terminal.close() == 0


@pytest.fixture
def running(folder: Path, slow: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A run in another process that has been at it for a while."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cai", *slow, "--quiet", "--engine-set", "pause=0.4"], env=environment()
    )
    try:
        ends = time.monotonic() + PATIENCE
        while not counted():
            assert time.monotonic() < ends and process.poll() is None
            time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait()


def counted() -> int:
    path = Path("x/slow.json")
    return json.loads(path.read_text())["counts"]["rows"] if path.exists() else 0


def shown_state(capsys: pytest.CaptureFixture[str], name: str) -> list[str]:
    """The words of a step's line in `cai show`."""
    assert run(["show", "x"]) == 0
    [words] = [line.split() for line in capsys.readouterr().out.splitlines() if line.split()[:1] == [name]]
    return words


def test_a_run_is_seen_from_beside_while_it_goes_and_after_a_kill(
    folder: Path, running: subprocess.Popen[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    assert holder_of(Path("x/slow.jsonl")) == running.pid
    name, kind, state, rows, rejects, speed, unit, _ = shown_state(capsys, "slow")
    assert (name, kind, state, rejects, unit) == ("slow", "generate", "running", "0", "tokens/s")
    assert 0 < int(rows) < 60 and float(speed) > 0
    assert run(["runs", "."]) == 0
    assert capsys.readouterr().out == "x  1 complete, 1 running\n"
    # Looking takes the lock from nobody: the run still has it.
    assert holder_of(Path("x/slow.jsonl")) == running.pid
    running.kill()
    running.wait()
    assert holder_of(Path("x/slow.jsonl")) is None
    assert shown_state(capsys, "slow")[2] == "partial"
    assert run(["runs", "."]) == 0
    assert capsys.readouterr().out == "x  1 complete, 1 partial\n"


def test_a_claim_of_our_own_is_seen_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    assert holder_of(path) is None
    claim = Claim(path)
    assert holder_of(path) == os.getpid()
    other = "from pathlib import Path; from cai.claim import holder_of; print(holder_of(Path('out.jsonl')))"
    seen = subprocess.run(
        [sys.executable, "-c", other], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert int(seen.stdout) == os.getpid()
    claim.release()
    assert holder_of(path) is None


def test_a_training_is_seen_while_it_goes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "x"
    folder.mkdir()
    model = folder / "sl-cai"
    assert trained.under_way(model) is None
    work_folder(model).mkdir()
    assert trained.under_way(model) == "no step yet"
    rows = '{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.5}\n{"step": 3, "lo'
    (work_folder(model) / METRICS).write_text(rows)
    assert trained.under_way(model) == "step 2, loss 1.5000"
    assert run(["show", str(folder)]) == 0
    words = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["sl-cai", "partial", "step", "2,", "loss", "1.5000"] in words
    claim = Claim(model)
    assert run(["runs", str(tmp_path)]) == 0
    assert f"{folder}  1 running" in capsys.readouterr().out.splitlines()
    claim.release()
