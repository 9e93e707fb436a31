"""Numbers as plain JSON and back. What was measured on no rows has no value: null, for JSON knows no NaN."""

from collections.abc import Mapping
from dataclasses import asdict
from math import isnan, nan
from typing import Any

from cai.evals import Number


def to_json(number: Number) -> dict[str, Any]:
    """The JSON object of a number."""
    return {**asdict(number), "value": None if isnan(number.value) else number.value}


def from_json(fields: Mapping[str, Any]) -> Number:
    """The number of a JSON object that `to_json` made."""
    return Number(**{**fields, "value": nan if fields["value"] is None else fields["value"]})
