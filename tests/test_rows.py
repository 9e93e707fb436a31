"""Reading and writing JSON lines."""

import json
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cai.encoding import encode
from cai.errors import CaiError
from cai.records import Comparison, Record, Reject, Turn, to_row
from cai.rows import (
    decode,
    items_for,
    key_of,
    read_comparisons,
    read_prompts,
    read_records,
    read_verdicts,
)

# A busy machine is no failure.
relaxed = settings(deadline=None)
ASK = SimpleNamespace(takes=Record, groups=False)
GROUP = SimpleNamespace(takes=Record, groups=True)
JUDGE = SimpleNamespace(takes=Comparison, groups=False)


def write(path: Path, *lines: object) -> Path:
    """A file of lines: bytes as they are, anything else as JSON."""
    whole = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    path.write_bytes(b"".join(line + b"\n" for line in whole))
    return path


def record(name: str, prompt_id: str = "p") -> Record:
    turn = Turn(kind="response", text="Yes.")
    return Record(id=name, prompt_id=prompt_id, prompt=({"role": "user", "content": "Hi"},), turns=(turn,))


def test_prompts_are_strings_objects_or_messages(tmp_path: Path) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    path = write(tmp_path / "p.jsonl", "Hi", {"prompt": "Ho", "category": "x", "n": 3}, {"prompt": messages})
    first, second, third = read_prompts(path)
    assert first.prompt == ({"role": "user", "content": "Hi"},)
    assert second.meta == {"category": "x", "n": 3}
    assert third.prompt == tuple(messages)


def test_a_byte_order_mark_line_ends_blank_lines_and_a_missing_last_line_end_are_nothing(
    tmp_path: Path,
) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(b'\xef\xbb\xbf\r\n{"prompt": "a"}\r\n\n   \n{"prompt": "b"}\n{"prompt": "c"}')
    assert [row.prompt[0]["content"] for row in read_prompts(path)] == ["a", "b", "c"]
    path.write_bytes(b'\xef\xbb\xbf{"prompt": "a"}\n')
    assert [row.prompt[0]["content"] for row in read_prompts(path)] == ["a"]


def test_repeated_prompts_are_records_of_their_own_across_files(tmp_path: Path) -> None:
    one = write(tmp_path / "a.jsonl", {"prompt": "Hi"}, {"prompt": "Hi"})
    two = write(tmp_path / "b.jsonl", {"prompt": "Hi"}, {"prompt": "Ho"})
    items = list(items_for(ASK, [one, two]))
    assert len({item.value.id for item in items}) == 4
    assert len({item.key for item in items}) == 4
    assert len({item.value.prompt_id for item in items}) == 2


BAD = [
    (
        b'{"prompt": "a"',
        "this line is no JSON (Expecting ',' delimiter, column 15); write one JSON object a line",
    ),
    (b"\xff\xe9", "this line is no text in UTF-8; save the file as UTF-8"),
    (b'{"prompt": NaN}', "this line is no JSON (NaN is no JSON number); write one JSON object a line"),
    (
        b'{"prompt": "a", "x": 1e999}',
        "'x' is too large a number; write it as a string",
    ),
    (b'{"text": "a"}', "'prompt' is missing; each line needs a string or a list of messages"),
    (b"7", "'prompt' is missing; each line needs a string or a list of messages"),
    (b'{"prompt": []}', "'prompt' is empty or no list; write a string or a list of messages"),
    (b'{"prompt": "a", "tags": ["x"]}', "'tags' is no plain value; use a string, a number, true or false"),
    (b'{"prompt": ' + b"[" * 100000, "this line is no JSON (maximum recursion depth exceeded"),
]


@pytest.mark.parametrize(("line", "message"), BAD)
def test_a_bad_line_is_a_reject_and_the_rest_goes_on(tmp_path: Path, line: bytes, message: str) -> None:
    path = write(tmp_path / "p.jsonl", {"prompt": "a"}, line, {"prompt": "b"})
    first, bad, last = read_prompts(path)
    assert isinstance(first, Record) and isinstance(last, Record)
    assert isinstance(bad, Reject)
    assert (bad.reason, bad.line, bad.stage) == ("bad row", 2, "read")
    assert bad.detail.startswith(f"p.jsonl:2: {message}")
    assert bad.raw == line.decode(errors="backslashreplace")


@pytest.mark.parametrize(("line", "message"), BAD)
def test_strict_stops_at_a_bad_line(tmp_path: Path, line: bytes, message: str) -> None:
    path = write(tmp_path / "p.jsonl", {"prompt": "a"}, line)
    with pytest.raises(CaiError) as error:
        list(read_prompts(path, strict=True))
    assert str(error.value).startswith(f"{path}:2: {message}")


def test_limit_reads_no_further(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", {"prompt": "a"}, {"prompt": "b"}, b"bad")
    assert len(list(read_prompts(path, strict=True, limit=2))) == 2


def test_reading_is_lazy(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", {"prompt": "a"}, b"bad")
    rows = read_prompts(path, strict=True)
    assert isinstance(next(rows), Record)
    with pytest.raises(CaiError):
        next(rows)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.jsonl", None, "there is no such file; give the path of a .jsonl file"),
        ("a.csv", b"x", "this is no .jsonl file; give a file with one JSON object a line"),
        ("empty.jsonl", b"", "there is no row in this file; give a file with one JSON object a line"),
        ("blank.jsonl", b"\n \n", "there is no row in this file; give a file with one JSON object a line"),
        ("wide.jsonl", '{"prompt": "a"}'.encode("utf-16"), "this file is UTF-16; save it as UTF-8"),
        (
            "array.jsonl",
            b'[\n{"prompt": "a"}\n]',
            "this file is one JSON array; write one JSON object a line",
        ),
    ],
)
def test_files_that_are_none(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CaiError) as error:
        list(read_prompts(path))
    assert str(error.value) == f"{path}: {message}"


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.mkdir()
    with pytest.raises(CaiError) as error:
        list(read_prompts(path))
    assert str(error.value) == f"{path}: this is a folder; give one of the .jsonl files in it"


def test_an_unfinished_file_says_so(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    write(tmp_path / "x.jsonl.partial", {"of": "00"})
    with pytest.raises(CaiError) as error:
        list(read_records(path))
    assert str(error.value) == f"{path}: this file is not finished; run the command that makes it again"


def test_an_empty_file_beside_rejects_says_where_to_look(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"")
    write(tmp_path / "x.rejects.jsonl", {"reason": "empty"})
    with pytest.raises(CaiError) as error:
        list(read_records(path))
    assert str(error.value) == f"{path}: there is no row in this file; {tmp_path}/x.rejects.jsonl says why"


def test_a_file_of_another_kind_is_named(tmp_path: Path) -> None:
    records = write(tmp_path / "r.jsonl", to_row(record("a")))
    with pytest.raises(CaiError) as error:
        list(items_for(JUDGE, [records]))
    assert str(error.value) == f"{records}: this file holds records; give a file of comparisons"
    rejects = write(tmp_path / "x.jsonl", to_row(Reject(id="a", item="b", stage="s", reason="r")))
    with pytest.raises(CaiError) as error:
        list(items_for(ASK, [rejects]))
    assert str(error.value) == f"{rejects}: this file holds rejects; give a file of records"


def test_a_record_with_a_key_missing_is_a_bad_row(tmp_path: Path) -> None:
    fields = to_row(record("a"))
    del fields["sample"]
    path = write(tmp_path / "r.jsonl", fields)
    with pytest.raises(CaiError) as error:
        list(read_records(path))
    assert str(error.value) == (
        f"{path}:1: this line is no record ('sample' is missing); "
        "give a file that generate, critique or revise wrote"
    )
    with pytest.raises(CaiError) as error:
        list(read_comparisons(write(tmp_path / "c.jsonl", {"id": "x"})))
    assert str(error.value) == (
        f"{tmp_path}/c.jsonl:1: this line is no comparison ('prompt_id' is missing); "
        "give a file that compare wrote"
    )


def test_groups_are_all_rows_of_a_prompt_wherever_they_stand(tmp_path: Path) -> None:
    one = write(tmp_path / "a.jsonl", *(to_row(record(*pair)) for pair in ["a1", "b2"]), b"bad")
    two = write(tmp_path / "b.jsonl", *(to_row(record(*pair)) for pair in ["c3", "d2", "e1", "f3"]))
    items = list(items_for(GROUP, [one, two]))
    groups = [item.value for item in items]
    assert isinstance(groups[2], Reject) and groups[2].line == 3
    names = [[row.id for row in group] for group in groups if isinstance(group, list)]
    assert names == [["a", "e"], ["b", "d"], ["c", "f"]]
    assert len({item.key for item in items}) == 4
    assert [item.key for item in items_for(GROUP, [one, two], limit=2)] == [item.key for item in items[:2]]


def test_a_group_has_another_key_when_one_of_its_rows_changes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", to_row(record("a", "1")), to_row(record("b", "1")))
    [before] = items_for(GROUP, [path])
    write(path, to_row(record("a", "1")), to_row(record("c", "1")))
    [after] = items_for(GROUP, [path])
    assert before.key != after.key


def test_verdicts_are_read_as_they_are(tmp_path: Path) -> None:
    path = write(tmp_path / "v.jsonl", {"harmful": True, "model": "m"})
    assert list(read_verdicts(path)) == [{"harmful": True, "model": "m"}]


text = st.text(st.characters(exclude_categories=()), max_size=20)
plain = st.one_of(text, st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans())


@relaxed
@given(text=text, meta=st.dictionaries(text, plain, max_size=3))
def test_a_row_comes_back_from_its_line_and_goes_out_as_the_same_bytes(text: str, meta: dict) -> None:
    turns = (Turn(kind="response", text=text), Turn(kind="critique", text=text * 2, finish="length"))
    row = Record(id="a", prompt_id="b", prompt=({"role": "user", "content": text},), meta=meta, turns=turns)
    line = encode(row)
    assert b"\n" not in line and b"\t" not in line and line == line.strip()
    assert json.loads(line) == json.loads(json.dumps(to_row(row)))
    assert decode(Record, json.loads(line.decode("utf-8")), "x") == row
    assert encode(json.loads(line)) == line
    assert list(json.loads(line)) == list(to_row(row))


def test_a_row_read_from_a_file_has_the_key_of_its_line(tmp_path: Path) -> None:
    row = record("a")
    path = tmp_path / "r.jsonl"
    path.write_bytes(encode(row) + b"\n")
    [item] = items_for(ASK, [path])
    assert item.key == key_of(encode(row))


def test_what_json_cannot_say_is_not_written() -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        encode({"x": float("nan")})


@relaxed
@given(st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=30), st.floats(0.01, 0.99))
def test_parts_share_no_prompt_and_lose_none(
    tmp_path_factory: pytest.TempPathFactory, prompts: list[str], cut: float
) -> None:
    path = tmp_path_factory.mktemp("parts") / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    low = [item.value for item in items_for(ASK, [path], part=(0.0, cut))]
    high = [item.value for item in items_for(ASK, [path], part=(cut, 1.0))]
    assert not {record.prompt_id for record in low} & {record.prompt_id for record in high}
    assert len(low) + len(high) == len(prompts)


@pytest.mark.parametrize(("stage", "most"), [(ASK, 130), (GROUP, 380)])
def test_a_row_that_was_read_leaves_little_in_memory(tmp_path: Path, stage: Any, most: int) -> None:
    """Python's own objects for a prompt's id and a row's place would take several times as much."""
    count = 2_500
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(f'{{"prompt": "request {number}"}}\n' for number in range(count)))
    tracemalloc.start()
    try:
        assert sum(1 for _ in items_for(stage, [path])) == count
        assert tracemalloc.get_traced_memory()[1] < most * count
    finally:
        tracemalloc.stop()
