"""The runner: whatever the order, the capacity, the kills and the torn bytes, the files come out the same."""

import contextlib
import importlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from standins import Answer, Review, Shuffled, Weigh, reply_to

from cai import manifest
from cai.engines import Reply
from cai.pipeline import Link, Progress, run
from cai.records import Record, sibling
from cai.rows import Item, items_for, read_records

CHAIN = {"responses": Answer(), "critiques": Review(), "revisions": Review()}
FILES = [f"{name}{end}" for name in CHAIN for end in (".jsonl", ".rejects.jsonl")]
PROMPTS = [
    *({"prompt": f"prompt {number}"} for number in range(17)),
    {"prompt": "prompt 3"},
    "not",
    {"no": 1},
]


class KilledError(Exception):
    """Stands for SIGKILL: nothing but `close` runs after it."""


def prompts(folder: Path) -> Path:
    path = folder / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in PROMPTS))
    return path


def links(folder: Path, session: Any, names: Sequence[str] = tuple(CHAIN)) -> list[Link]:
    return [
        Link(
            stage=CHAIN[name],
            path=folder / f"{name}.jsonl",
            identity={"stage": name},
            session=lambda: session,
        )
        for name in names
    ]


def go(folder: Path, session: Any, **options: Any) -> None:
    run(links(folder, session), items_for(Answer(), [folder / "prompts.jsonl"]), **options)


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES if (folder / name).exists()}


def totals(folder: Path) -> list[Any]:
    found = [manifest.read(folder / f"{name}.jsonl") or {} for name in CHAIN]
    return [(one["complete"], one["counts"], one["tokens"], one["files"]) for one in found]


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    """Waiting for a busy disk is most of the time, and no test here cuts the power."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("os.fsync", lambda handle: None)
        yield


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    prompts(folder)
    go(folder, Shuffled(0))
    assert set(contents(folder)) == set(FILES)
    return folder


def same(folder: Path, unbroken: Path) -> None:
    assert contents(folder) == contents(unbroken)
    assert totals(folder) == totals(unbroken)
    left = {path.name for path in folder.iterdir()}
    assert left == {path.name for path in unbroken.iterdir()}, "nothing else is left lying about"


@pytest.fixture
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    def make() -> Path:
        folder = tmp_path_factory.mktemp("run")
        prompts(folder)
        return folder

    return make


many = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_rows_stand_in_the_order_of_their_prompts(unbroken: Path) -> None:
    items = items_for(Answer(), [unbroken / "prompts.jsonl"])
    records = [item.value for item in items if isinstance(item.value, Record)]
    order = [sibling(one, sample).id for one in records for sample in range(2)]
    for name in CHAIN:
        written = [row.id for row in read_records(unbroken / f"{name}.jsonl")]
        assert written == [id for id in order if id in written]


def test_the_bad_line_is_a_reject_of_the_first_link_only(unbroken: Path) -> None:
    rejects = [json.loads(line) for line in (unbroken / "responses.rejects.jsonl").read_bytes().splitlines()]
    assert [row["line"] for row in rejects if row["reason"] == "bad row"] == [20]
    assert b"bad row" not in (unbroken / "critiques.rejects.jsonl").read_bytes()


def test_counts_add_up(unbroken: Path) -> None:
    items = 0
    for name in CHAIN:
        found = manifest.read(unbroken / f"{name}.jsonl")
        assert found is not None
        rows = (unbroken / f"{name}.jsonl").read_bytes().count(b"\n")
        rejects = (unbroken / f"{name}.rejects.jsonl").read_bytes().count(b"\n")
        assert found["counts"]["rows"] == rows
        assert sum(found["counts"]["rejects"].values()) == rejects
        assert found["counts"]["items"] == (items or len(PROMPTS))
        items = rows


def test_tokens_are_the_replies_own(unbroken: Path) -> None:
    session = Shuffled(3)
    folder = unbroken.parent / "tokens"
    folder.mkdir()
    prompts(folder)
    run(links(folder, session, ["responses"]), items_for(Answer(), [folder / "prompts.jsonl"]))
    answered = sum(not reply_to(request).error for request in session.asked)
    found = manifest.read(folder / "responses.jsonl")
    assert found is not None
    assert found["tokens"] == {"prompt": 5 * answered, "cached": 2 * answered, "generated": 3 * answered}


@many
@given(seed=st.integers(0, 1000), capacity=st.integers(1, 40))
def test_neither_order_nor_capacity_shows(
    unbroken: Path, fresh: Callable[[], Path], seed: int, capacity: int
) -> None:
    folder = fresh()
    go(folder, Shuffled(seed, capacity))
    same(folder, unbroken)


def test_one_link_at_a_time_comes_to_the_same(unbroken: Path, fresh: Callable[[], Path]) -> None:
    folder = fresh()
    before = "prompts"
    for name in CHAIN:
        run(links(folder, Shuffled(7), [name]), items_for(CHAIN[name], [folder / f"{before}.jsonl"]))
        before = name
    same(folder, unbroken)


def test_two_sessions_side_by_side_come_to_the_same(unbroken: Path, fresh: Callable[[], Path]) -> None:
    folder = fresh()
    first, second = Shuffled(1, 3), Shuffled(2, 2)
    chain = [links(folder, one, [name])[0] for name, one in zip(CHAIN, (first, second, first), strict=True)]
    run(chain, items_for(Answer(), [folder / "prompts.jsonl"]))
    assert first.asked and second.asked
    same(folder, unbroken)


class Slow(Shuffled):
    """Answers only what the other session leaves it: not ready while that one has requests in hand."""

    def __init__(self, other: Shuffled) -> None:
        super().__init__(2, 2)
        self.other = other
        self.waited = 0

    @property
    def ready(self) -> bool:
        return not self.other._waiting

    def poll(self) -> list[tuple[int, Reply]]:
        self.waited += not self.ready
        return super().poll()


def test_a_session_that_is_not_ready_holds_up_no_other(unbroken: Path, fresh: Callable[[], Path]) -> None:
    folder = fresh()
    quick = Shuffled(1, 3)
    slow = Slow(quick)
    chain = [links(folder, one, [name])[0] for name, one in zip(CHAIN, (quick, slow, quick), strict=True)]
    run(chain, items_for(Answer(), [folder / "prompts.jsonl"]))
    assert slow.asked and slow.waited == 0
    same(folder, unbroken)


class Mortal(Shuffled):
    """Dies after so many polls."""

    def __init__(self, seed: int, capacity: int, polls: int) -> None:
        super().__init__(seed, capacity)
        self._left = polls

    def poll(self) -> list[tuple[int, Reply]]:
        self._left -= 1
        if self._left < 0:
            raise KilledError
        return super().poll()


@many
@given(
    kills=st.lists(st.tuples(st.integers(0, 1000), st.integers(1, 12), st.integers(0, 12)), max_size=6),
    tears=st.lists(st.tuples(st.integers(0, 2), st.floats(0, 1)), min_size=6, max_size=6),
)
def test_kills_and_torn_bytes_do_not_show(
    unbroken: Path,
    fresh: Callable[[], Path],
    kills: list[tuple[int, int, int]],
    tears: list[tuple[int, float]],
) -> None:
    folder = fresh()
    for (seed, capacity, polls), (journal, share) in zip(kills, tears, strict=False):
        try:
            go(folder, Mortal(seed, capacity, polls))
        except KilledError:
            tear(folder / f"{list(CHAIN)[journal]}.jsonl.partial", share)
    go(folder, Shuffled(5))
    same(folder, unbroken)


def tear(journal: Path, share: float) -> None:
    """Cut a journal anywhere, in the middle of a line or not."""
    if journal.exists():
        with journal.open("r+b") as file:
            file.truncate(int(share * journal.stat().st_size))


def test_every_torn_byte_of_the_last_line(unbroken: Path, fresh: Callable[[], Path]) -> None:
    folder = fresh()
    with pytest.raises(KilledError):
        go(folder, Mortal(0, 4, 9))
    journal = folder / "responses.jsonl.partial"
    whole = journal.read_bytes()
    last = len(whole.splitlines(keepends=True)[-1])
    for cut in range(0, last + 1, 23):
        journal.write_bytes(whole[: len(whole) - cut])
        with pytest.raises(KilledError):
            go(folder, Mortal(0, 4, 0))
        kept = whole.count(b"\n") - (cut > 0)
        assert journal.read_bytes().count(b"\n") >= kept
        assert journal.read_bytes().startswith(whole[: len(whole) - last])
    go(folder, Shuffled(1))
    same(folder, unbroken)


MOMENTS = ["os.fsync", "os.replace", "pathlib.Path.unlink", "os.open"]


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("after", [False, True])
def test_a_kill_between_any_two_steps_of_finishing(
    unbroken: Path, fresh: Callable[[], Path], monkeypatch: pytest.MonkeyPatch, moment: str, after: bool
) -> None:
    """Die before or after the n-th call that changes the disk, for every n, then go on."""
    happened = 0
    while True:
        folder = fresh()
        with monkeypatch.context() as patched:
            calls = bomb(patched, moment, happened, after)
            with contextlib.suppress(KilledError):
                go(folder, Shuffled(2))
        go(folder, Shuffled(3))
        same(folder, unbroken)
        if next(calls) <= happened:
            break
        happened += 1
    assert happened >= 6


def bomb(patched: pytest.MonkeyPatch, moment: str, at: int, after: bool) -> Iterator[int]:
    """Replace a function by one that dies at its `at`-th call; yields how often it was called."""
    module_name, _, name = moment.rpartition(".")
    owner: Any = Path if module_name == "pathlib.Path" else importlib.import_module(module_name)
    real = getattr(owner, name)
    count = [0]

    def dying(*arguments: Any, **options: Any) -> Any:
        if ".lock" in str(arguments[0]):
            # Not called any more once the process is dead.
            return real(*arguments, **options)
        count[0] += 1
        if count[0] == at + 1 and not after:
            raise KilledError
        result = real(*arguments, **options)
        if count[0] == at + 1:
            raise KilledError
        return result

    patched.setattr(owner, name, dying)
    return iter(lambda: count[0], -1)


def test_what_is_finished_is_not_asked_again(fresh: Callable[[], Path]) -> None:
    folder = fresh()
    broken, rest, whole = Mortal(0, 4, 8), Shuffled(1), Shuffled(2)
    with pytest.raises(KilledError):
        go(folder, broken)
    done = [
        json.loads(line[: line.find(b"\t")])["of"]
        for name in CHAIN
        for line in (folder / f"{name}.jsonl.partial").read_bytes().splitlines()
    ]
    assert len(done) > 5
    go(folder, rest)
    go(fresh(), whole)
    assert len(rest.asked) < len(whole.asked)
    # What was in flight: twice the capacity and one, each part of an item that asks two requests.
    assert len(broken.asked) + len(rest.asked) - len(whole.asked) <= 2 * (2 * 4 + 1)


def test_a_complete_chain_opens_no_engine_and_reads_no_source(unbroken: Path) -> None:
    def none() -> Any:
        raise AssertionError("opened")

    def nothing() -> Iterator[Item]:
        raise AssertionError("read")
        yield

    chain = [
        Link(stage=CHAIN[name], path=unbroken / f"{name}.jsonl", identity={"stage": name}, session=none)
        for name in CHAIN
    ]
    before = contents(unbroken), totals(unbroken)
    run(chain, nothing())
    assert (contents(unbroken), totals(unbroken)) == before


@pytest.mark.parametrize("gone", [["critiques"], ["revisions"], ["responses"], ["responses", "revisions"]])
def test_files_that_are_gone_are_made_again_from_those_that_are_there(
    unbroken: Path, fresh: Callable[[], Path], gone: list[str]
) -> None:
    folder = fresh()
    go(folder, Shuffled(0))
    for name in gone:
        (folder / f"{name}.jsonl").unlink()
    again = Shuffled(4)
    go(folder, again)
    same(folder, unbroken)
    whole = Shuffled(0)
    go(fresh(), whole)
    assert 0 < len(again.asked) < len(whole.asked)


def test_a_grouping_stage_weighs_all_rows_of_a_prompt(unbroken: Path, fresh: Callable[[], Path]) -> None:
    folder = fresh()
    path = folder / "comparisons.jsonl"
    files = [unbroken / "responses.jsonl", unbroken / "revisions.jsonl"]
    run([Link(stage=Weigh(), path=path, identity={})], items_for(Weigh(), files))
    sizes = {
        row["prompt_id"]: len(row["candidates"]) for row in map(json.loads, path.read_bytes().splitlines())
    }
    expected: dict[str, int] = {}
    for row in [row for file in files for row in read_records(file)]:
        expected[row.prompt_id] = expected.get(row.prompt_id, 0) + 1
    assert sizes == {prompt: count for prompt, count in expected.items() if count > 1}


def test_progress_is_told_at_the_end_and_counts_what_was_there(fresh: Callable[[], Path]) -> None:
    folder = fresh()
    with pytest.raises(KilledError):
        go(folder, Mortal(0, 4, 8))
    told: list[Sequence[Progress]] = []
    go(folder, Shuffled(1), on_progress=told.append)
    last = told[-1]
    assert [one.name for one in last] == list(CHAIN)
    for one in last:
        found = manifest.read(folder / f"{one.name}.jsonl")
        assert found is not None
        assert (one.items, one.rows) == (found["counts"]["items"], found["counts"]["rows"])
        assert one.rejects == sum(found["counts"]["rejects"].values())
        assert one.tokens == found["tokens"]["generated"]
