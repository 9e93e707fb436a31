"""The seconds of outputs that are made at once."""

import pytest

from cai.clock import Clock


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    return clock


def test_outputs_share_the_time_by_their_tokens(now: list[float]) -> None:
    clock = Clock()
    clock.join()
    clock.join()
    now[0] += 4
    assert (clock.share(0), clock.share(0)) == (2.0, 2.0)
    clock.count(30)
    clock.count(10)
    assert (clock.share(30), clock.share(10)) == (3.0, 1.0)


def test_a_stopped_clock_stands(now: list[float]) -> None:
    clock = Clock()
    clock.join()
    now[0] += 4
    clock.stop()
    now[0] += 4
    clock.stop()
    assert clock.share(0) == 4.0
