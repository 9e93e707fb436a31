"""What is written is JSON that reads back as it was, and digests do not hang on who encodes."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cai.encoding import canonical, encode
from cai.errors import CaiError
from cai.records import Record, Turn, user
from cai.rows import _Line, _parse

TEXTS = st.text(st.characters(exclude_categories=()))
EXACT = st.none() | st.booleans() | st.integers() | TEXTS
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


def nested(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=8)


@given(nested(EXACT | NUMBERS))
@example({"half": "\ud800", "n": 2**70, "none": None, "null": "null", "small": 5e-324})
def test_a_value_reads_back_as_it_was(value: Any) -> None:
    text = encode(value)
    assert json.loads(text) == value
    assert b"\n" not in text and b"\t" not in text


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_json_has_no_word_for_is_an_error(number: float) -> None:
    with pytest.raises(ValueError, match="Out of range float values are not JSON compliant"):
        encode({"scores": [0.5, number]})
    with pytest.raises(ValueError, match="Out of range float values are not JSON compliant"):
        canonical([number])


@given(nested(EXACT))
@example([{"b": '\x00\x1f\x7f\u2028"\\/é', "a": {"\ud800": None}}])
def test_digested_text_is_the_standard_librarys(value: Any) -> None:
    plain = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    assert canonical(value) == plain.encode("utf-8", "surrogatepass")


def test_a_row_is_its_fields_in_their_order() -> None:
    turn = Turn(kind="response", text="Sieh da: ü")
    row = Record(id="r", prompt_id="p", prompt=(user("?"),), meta={"z": 1, "a": None}, turns=(turn,))  # type: ignore[dict-item]
    wanted = (
        '{"id":"r","prompt_id":"p","sample":0,"prompt":[{"role":"user","content":"?"}],"meta":{"z":1,"a":null},'
        '"turns":[{"kind":"response","text":"Sieh da: ü","principle":"","wording":"","model":"","weights":"",'
        '"finish":"stop"}]}'
    )
    assert encode(row) == wanted.encode()
    # Without the null it is msgspec that writes.
    assert encode(Record(**{**vars(row), "meta": {"z": 1}})) == wanted.replace(',"a":null', "").encode()


def read(raw: bytes) -> Any:
    return _parse(_Line(Path("f.jsonl"), 1, 0, raw, (0,)))


def no_constant(name: str) -> None:
    raise ValueError(name)


@given(nested(EXACT | NUMBERS), st.integers(0, 200), TEXTS)
@example({"a": 1}, 6, "\x01")
@example({"a": "x"}, 6, "\n")
@example([1e308], 1, "9" * 400)
@example(["x"], 2, "\\ud800")
def test_a_line_is_read_as_the_standard_library_reads_it(value: Any, at: int, typed: str) -> None:
    """Sound lines, and lines that somebody typed into."""
    text = json.dumps(value, ensure_ascii=False)
    for line in (text, json.dumps(value), text[:at] + typed + text[at:], text[:at]):
        try:
            raw = line.encode()
            wanted = json.loads(raw.decode(), parse_constant=no_constant)
        except UnicodeEncodeError:
            continue
        except ValueError:
            with pytest.raises(CaiError, match="this line is no JSON"):
                read(raw)
        else:
            assert repr(read(raw)) == repr(wanted)
