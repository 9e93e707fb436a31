"""The runner: how full it keeps an engine, and what it makes of stages and engines that misbehave."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from standins import Answer, Shuffled, Weigh
from test_pipeline import CHAIN, KilledError, links, prompts

from cai import manifest
from cai.engines import Reply, Request, Sampling
from cai.errors import CaiError
from cai.pipeline import Link, run
from cai.records import Record
from cai.rows import Item, items_for

MANY = 300


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
