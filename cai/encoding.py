"""JSON text of many small values: the standard library's encoder, made once and not for every value."""

import json
from collections.abc import Callable
from json import encoder
from typing import Any


def encoder_of(
    *, default: Callable[[Any], Any] | None = None, tight: bool = False, sort_keys: bool = False
) -> Callable[[Any], str]:
    """A function from a value to its JSON; `ValueError` for a number that JSON has no word for.

    `tight` leaves out the blanks after ':' and ','. Characters stay as they are, half surrogates too.
    """
    item, key = (",", ":") if tight else (", ", ": ")
    plain = json.JSONEncoder(
        ensure_ascii=False, allow_nan=False, default=default, sort_keys=sort_keys, separators=(item, key)
    )
    # Without its C part (another Python) the standard library's own way does the same, slower.
    made = getattr(encoder, "c_make_encoder", None)
    if made is None:
        return plain.encode
    encode = made(None, plain.default, encoder.encode_basestring, None, key, item, sort_keys, False, False)
    return lambda value: "".join(encode(value, 0))
