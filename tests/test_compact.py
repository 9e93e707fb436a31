"""Tables and sorters against Python's own."""

from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cai.compact import Sorter, Table

keys = st.binary(min_size=16, max_size=16)


@given(st.lists(st.tuples(keys, st.integers(0, 2**64 - 2))))
def test_a_table_is_a_dictionary(pairs: list[tuple[bytes, int]]) -> None:
    table, expected = Table(), dict(pairs)
    for key, number in pairs:
        table.put(key, number)
    assert {key: table.get(key) for key in expected} == expected
    assert table.get(b"\xff" * 15 + b"\x01") == expected.get(b"\xff" * 15 + b"\x01")


def test_a_table_grows_and_keys_that_want_one_slot_stay_apart() -> None:
    # The low half decides the slot: here it is one and the same.
    pairs = [(number.to_bytes(8, "big") + b"\0" * 8, number) for number in range(300)]
    pairs += [(blake2b(b"%d" % number, digest_size=16).digest(), number) for number in range(5000)]
    table = Table()
    for key, number in pairs:
        assert table.get(key) is None
        table.put(key, number)
    assert all(table.get(key) == number for key, number in pairs)
    table.put(pairs[7][0], 2**60)
    assert table.get(pairs[7][0]) == 2**60


@given(st.lists(st.sampled_from([b"%016d" % number for number in range(5)])))
def test_a_table_counts(seen: list[bytes]) -> None:
    table = Table()
    assert [table.count(key) for key in seen] == [seen[:at].count(key) for at, key in enumerate(seen)]


@given(st.lists(st.binary(min_size=3, max_size=3), max_size=200))
def test_a_sorter_sorts(records: list[bytes]) -> None:
    sorter = Sorter()
    for record in records:
        sorter.add(record)
    assert list(sorter) == list(sorter) == sorted(records)


def test_a_sorter_sorts_more_than_a_block() -> None:
    records = [blake2b(b"%d" % number, digest_size=8).digest() for number in range(40_000)]
    sorter = Sorter()
    for record in records:
        sorter.add(record)
    assert list(sorter) == sorted(records)


def test_records_of_another_width_are_a_bug() -> None:
    sorter = Sorter()
    sorter.add(b"12")
    with pytest.raises(RuntimeError, match="a record of 3 bytes among those of 2"):
        sorter.add(b"123")
