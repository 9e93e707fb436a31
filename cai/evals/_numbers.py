"""Numbers as plain JSON and back.

What is not known (a value over no rows, the interval of one draw) is null, for JSON knows no NaN.
"""

from collections.abc import Mapping
from dataclasses import asdict
from math import isnan, nan
from typing import Any

from cai.evals import Number

_KNOWN = ("value", "low", "high")


def to_json(number: Number) -> dict[str, Any]:
    """The JSON object of a number."""
    fields = asdict(number)
    return {**fields, **{name: None for name in _KNOWN if isnan(fields[name])}}


def from_json(fields: Mapping[str, Any]) -> Number:
    """The number of a JSON object that `to_json` made."""
    return Number(**{**fields, **{name: nan for name in _KNOWN if fields[name] is None}})
