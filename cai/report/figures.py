"""How a number reads, on a terminal and on the page: one wording for both."""

from math import floor, isnan, log10

from cai.evals import Number

NOTHING = "nothing measured"
UNDEFINED = "not defined"


def value(number: Number) -> str:
    """A share as a percentage, any other number as it is."""
    if number.n == 0:
        return NOTHING
    if isnan(number.value):
        # As chance-corrected agreement is of two readers who say one word throughout.
        return UNDEFINED
    return f"{number.value:z.1%}" if is_share(number) else _plain(number.value, number)


def interval(number: Number) -> str:
    """The 95 % interval, "[95.1, 98.7]"; empty where there is no value, "[?]" where one draw tells none."""
    if number.n == 0 or isnan(number.value):
        return ""
    if isnan(number.low) or isnan(number.high):
        return "[?]"
    if is_share(number):
        return f"[{100 * number.low:z.1f}, {100 * number.high:z.1f}]"
    return f"[{_plain(number.low, number)}, {_plain(number.high, number)}]"


def _plain(value: float, number: Number) -> str:
    """Of what goes into the hundreds, nobody reads thousandths."""
    return f"{value:z.1f}" if abs(number.value) >= 100 else f"{value:z.3f}"


def is_share(number: Number) -> bool:
    """Whether the number says so or, where it says nothing, all that it may be lies between 0 and 1."""
    if number.unit:
        return number.unit == "share"
    return number.low >= 0 and number.high <= 1


def price(amount: float) -> str:
    """A price to the hundredth; one below that to two digits of its own, for it is not nothing."""
    if not 0 < amount < 0.01:
        return f"{amount:,.2f}"
    return f"{amount:.{1 - floor(log10(amount))}f}"
