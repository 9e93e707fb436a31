"""Which engines are held at once, and when a running one takes over another's model."""

from dataclasses import dataclass
from typing import Any

import pytest

from cai.engines import fit_together
from cai.execute import Sessions

opened: list[str] = []
closed: list[str] = []


class Open:
    def __init__(self, engine: "Fake") -> None:
        self.model, self.kind = engine.model, engine.kind
        opened.append(engine.model)

    def become(self, engine: "Fake") -> bool:
        if engine.kind != self.kind:
            return False
        self.model = engine.model
        return True

    def close(self) -> None:
        closed.append(self.model)


@dataclass(frozen=True, kw_only=True)
class Fake:
    model: str
    kind: str = "a"
    needs: float = 1.0

    def share(self) -> float:
        return self.needs

    def open(self) -> Any:
        return Open(self)


@pytest.fixture(autouse=True)
def forget() -> None:
    opened.clear()
    closed.clear()


def ask(sessions: Sessions, *engines: Any) -> list[str]:
    """Keep what these engines need, open the others; the models that then answer for them."""
    sessions.keep(engines)
    return [sessions.opener(engine)().model for engine in engines]


def test_a_session_is_opened_once_and_closed_when_another_is_wanted() -> None:
    sessions = Sessions()
    first, second = Fake(model="one"), Fake(model="two", kind="b")
    assert ask(sessions, first) == ask(sessions, first) == ["one"]
    assert (opened, closed) == (["one"], [])
    assert ask(sessions, second) == ["two"]
    assert (opened, closed) == (["one", "two"], ["one"])


def test_a_session_goes_on_as_an_engine_that_differs_in_weights_alone() -> None:
    sessions = Sessions()
    ask(sessions, Fake(model="one"))
    assert ask(sessions, Fake(model="two")) == ["two"]
    assert (opened, closed) == (["one"], [])
    sessions.close()
    assert closed == ["two"]


def test_a_session_that_is_wanted_still_becomes_nothing_else() -> None:
    sessions = Sessions()
    one, two = Fake(model="one", needs=0.5), Fake(model="two", needs=0.5)
    assert ask(sessions, one) == ["one"]
    assert ask(sessions, one, two) == ["one", "two"]
    assert (opened, closed) == (["one", "two"], [])


def test_one_session_becomes_one_engine_and_the_other_is_closed() -> None:
    sessions = Sessions()
    ask(sessions, Fake(model="one", needs=0.5), Fake(model="two", needs=0.5))
    assert ask(sessions, Fake(model="three")) == ["three"]
    assert (opened, closed) == (["one", "two"], ["two"])


@pytest.mark.parametrize(
    ("shares", "fits"),
    [([1.0], True), ([1.0, 1.0], False), ([0.45, 0.45], True), ([0.9, 0.0, 0.0], True), ([0.6, 0.5], False)],
)
def test_engines_fit_together_as_far_as_the_device_goes(shares: list[float], fits: bool) -> None:
    engines: list[Any] = [Fake(model=str(at), needs=share) for at, share in enumerate(shares)]
    assert fit_together(engines) is fits
    assert fit_together([engines[0], engines[0]])


def test_an_engine_that_says_nothing_takes_the_whole_device() -> None:
    engines: list[Any] = [Fake(model="small", needs=0.1), object()]
    assert not fit_together(engines)
