"""How numbers read."""

import pytest

from cai.evals import Number
from cai.report import figures
from cai.sweep import terminal


def number(value: float, low: float, high: float, unit: str) -> Number:
    return Number(name="x", of="m", value=value, low=low, high=high, n=9, unit=unit)  # type: ignore[arg-type]


def test_there_is_no_negative_zero() -> None:
    plain = number(-1e-9, -0.0004, 0.2, "plain")
    assert (figures.value(plain), figures.interval(plain)) == ("0.000", "[0.000, 0.200]")
    share = number(-1e-9, -0.0001, 0.2, "share")
    assert (figures.value(share), figures.interval(share)) == ("0.0%", "[0.0, 20.0]")
    assert figures.value(number(-0.0123, -1, 1, "plain")) == "-0.012"
    assert [
        terminal.number(-1e-9, share, signed=signed) for share in (True, False) for signed in (True, False)
    ] == [
        "+0.0",
        "0.0%",
        "+0.000",
        "0.000",
    ]
    assert terminal.interval((-1e-9, -0.1), False) == " [0.000, -0.100]"


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        (0.0, "0.00"),
        (1234.5, "1,234.50"),
        (0.01, "0.01"),
        (0.00999, "0.0100"),
        (0.0014, "0.0014"),
        (0.0000123, "0.000012"),
        (1e-9, "0.0000000010"),
    ],
)
def test_a_price_below_a_cent_is_not_nothing(amount: float, shown: str) -> None:
    assert figures.price(amount) == shown
