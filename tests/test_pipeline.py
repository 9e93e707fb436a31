"""The runner: whatever the order, the capacity, the kills and the torn bytes, the files come out the same."""

import contextlib
import importlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from standins import Answer, Review, Shuffled, Weigh, reply_to

from cai import manifest
from cai.engines import Reply, Request, Sampling
from cai.errors import CaiError
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


MANY = 300


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


def test_a_link_with_nothing_to_do_ends_in_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"no": 1}\n')
    session = Shuffled()
    chain = links(tmp_path, session, ["responses", "critiques"])
    run(chain, items_for(Answer(), [path]))
    assert (tmp_path / "critiques.jsonl").read_bytes() == b""
    assert not (tmp_path / "critiques.rejects.jsonl").exists()
    # And again when only the second is left to make.
    (tmp_path / "critiques.jsonl").unlink()
    run(chain, items_for(Answer(), [path]))
    assert (tmp_path / "critiques.jsonl").read_bytes() == b""
    assert not session.asked


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


def test_a_grouping_stage_cannot_be_chained_behind_another(tmp_path: Path) -> None:
    grouping = Link(stage=Weigh(), path=tmp_path / "b.jsonl", identity={})
    with pytest.raises(RuntimeError, match="a stage that groups needs the whole file before it"):
        run([*links(tmp_path, Shuffled(), ["responses"]), grouping], ())


@dataclass(frozen=True, kw_only=True)
class Faulty:
    """Returns, or raises, what it is given."""

    result: Any

    takes: ClassVar[type] = Record
    makes: ClassVar[type] = Record

    def work(self, record: Record) -> Any:
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


def faulty(folder: Path, result: Any) -> None:
    link = Link(stage=Faulty(result=result), path=folder / "a.jsonl", identity={})
    run([link], items_for(Faulty(result=0), [prompts(folder)]))


def test_a_stage_that_returns_nothing_is_named(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"Faulty\.work returned no row; a Reject is the least"):
        faulty(tmp_path, [])


def test_what_a_stage_raises_comes_through_and_lets_go_of_the_output(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            faulty(tmp_path, ZeroDivisionError())
    assert not list(tmp_path.glob(".*"))


def test_a_stage_that_asks_needs_an_engine(tmp_path: Path) -> None:
    link = Link(stage=Answer(), path=tmp_path / "a.jsonl", identity={})
    with pytest.raises(CaiError) as error:
        run([link], items_for(Answer(), [prompts(tmp_path)]))
    assert str(error.value) == "'a' asks a model; say which: --model, or engine = ..."


class Silent(Shuffled):
    def poll(self) -> list[tuple[int, Reply]]:
        return []


def test_an_engine_that_gives_no_answer_is_no_endless_loop(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="the engine has 8 requests and gives no answer"):
        run(links(tmp_path, Silent(), ["responses"]), items_for(Answer(), [prompts(tmp_path)]))


@dataclass(frozen=True, kw_only=True)
class Patient:
    """Yields an empty list of requests before it asks."""

    takes: ClassVar[type] = Record
    makes: ClassVar[type] = Record

    def work(self, record: Record) -> Any:
        assert (yield []) == []
        [reply] = yield [Request(messages=record.prompt, want=Sampling())]
        assert (yield []) == []
        return [{"text": reply.text}]


def test_an_empty_list_of_requests_is_answered_at_once(tmp_path: Path) -> None:
    link = Link(stage=Patient(), path=tmp_path / "a.jsonl", identity={}, session=lambda: session)
    session = Shuffled()
    run([link], items_for(Patient(), [prompts(tmp_path)], limit=5))
    assert len((tmp_path / "a.jsonl").read_bytes().splitlines()) == 5


def endless(taken: list[int]) -> Iterator[Item]:
    for number in range(MANY):
        taken.append(number)
        yield Item(number.to_bytes(16, "big"), record(number), (number,))


def record(number: int) -> Record:
    prompt = ({"role": "user", "content": str(number)},)
    return Record(id=f"{number:032x}", prompt_id=f"{number:032x}", prompt=prompt)


class Watching(Shuffled):
    """Counts how often it had less to do than it could while there was more to be had."""

    def __init__(self, taken: list[int], capacity: int) -> None:
        super().__init__(0, capacity)
        self.taken = taken
        self.starved = 0

    def poll(self) -> list[tuple[int, Reply]]:
        self.starved += len(self._waiting) < self.capacity and len(self.taken) < MANY
        return super().poll()


def test_the_engine_is_kept_full_and_the_source_is_read_no_further_than_needed(tmp_path: Path) -> None:
    taken: list[int] = []
    session = Watching(taken, 16)
    run(links(tmp_path, session), endless(taken))
    assert session.starved == 0
    # The last item let in asks two requests, and its answers' reviews take their place.
    assert session.most <= 2 * 16 + 1


def test_nothing_waits_for_the_stage_before_it_to_be_done(tmp_path: Path) -> None:
    """When the last prompt is let in, most of the others are through the whole chain."""

    def watched() -> Iterator[Item]:
        yield from endless([])
        counts.extend((tmp_path / f"{name}.jsonl.partial").read_bytes().count(b"\n") for name in CHAIN)

    counts: list[int] = []
    run(links(tmp_path, Shuffled(0, 2)), watched())
    ends = [(manifest.read(tmp_path / f"{name}.jsonl") or {})["counts"]["items"] for name in CHAIN]
    assert all(end - count <= 2 * 2 + 1 for count, end in zip(counts, ends, strict=True))


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


def test_an_item_that_changed_is_asked_again(tmp_path: Path) -> None:
    """After a loss of power a journal may hold more than the one before it: only the very item counts."""
    first = links(tmp_path, Shuffled(), ["critiques"])
    old = [Item(b"a" * 16, record(1), (0,)), Item(b"b" * 16, record(2), (1,))]
    with pytest.raises(KilledError):
        run(first, [*old, *dying()])
    session = Shuffled()
    run(links(tmp_path, session, ["critiques"]), [old[0], Item(b"c" * 16, record(3), (1,))])
    found = manifest.read(tmp_path / "critiques.jsonl")
    assert found is not None
    assert found["counts"]["items"] == 2
    written = (tmp_path / "critiques.jsonl").read_bytes() + b"".join(
        path.read_bytes() for path in tmp_path.glob("*.rejects.jsonl")
    )
    assert record(2).id.encode() not in written


def dying() -> Iterator[Item]:
    yield Item(b"x" * 16, record(9), (0,))
    yield Item(b"y" * 16, record(10), (1,))
    yield Item(b"z" * 16, record(11), (2,))
    raise KilledError
