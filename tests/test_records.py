"""Draws and ids."""

from hypothesis import given
from hypothesis import strategies as st

from cai.records import draw, draws

part = st.one_of(st.text(st.characters(exclude_categories=())), st.integers(), st.none())


@given(st.integers(), st.lists(part, max_size=3), st.lists(st.text(), max_size=4))
def test_many_draws_are_each_the_same_as_alone(seed: int, key: list[object], last: list[str]) -> None:
    assert list(draws(seed, *key, last=last)) == [draw(seed, *key, one) for one in last]
