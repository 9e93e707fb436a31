"""Run files: claims, identities and what is said of them, outputs that stand or are made again, listings."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from test_rows import write

from cai import manifest
from cai.claim import lock_of
from cai.errors import CaiError
from cai.journal import Journal
from cai.records import Reject
from cai.runs import discard, is_complete, journal_of, open_output, runs_in

KEY = b"k" * 16
PRINCIPLES = {"no-weapons": "a" * 32, "kind": "b" * 32}
IDENTITY = {
    "stage": {
        "kind": "critique",
        "temperature": 0.7,
        "stop": ("x",),
        "constitution": {"principles": PRINCIPLES, "weights": {"no-weapons": 1.0, "kind": 1.0}},
    },
    "engine": {"kind": "local", "model": "c" * 32},
    "inputs": ["d" * 32],
}


def make(path: Path, identity: Any = IDENTITY, *, finish: bool = True) -> None:
    output = open_output(path, identity)
    assert output is not None
    reject = Reject(id="r", item="i", stage="s", reason="empty")
    output.write(KEY, (1,), [{"n": 1}], (1, 0, 2))
    output.write(KEY[::-1], (0,), [{"n": 0}, reject], (3, 1, 4))
    if finish:
        output.finish()
    output.close()


def refused(path: Path, identity: Any) -> str:
    with pytest.raises(CaiError) as error:
        is_complete(path, identity)
    with pytest.raises(CaiError) as again:
        open_output(path, identity)
    assert str(error.value) == str(again.value)
    return str(error.value)


def test_the_files_of_a_finished_output(tmp_path: Path) -> None:
    path = tmp_path / "new" / "critiques.jsonl"
    make(path)
    names = {"critiques.jsonl", "critiques.rejects.jsonl", "critiques.json"}
    assert {one.name for one in path.parent.iterdir()} == names
    assert path.read_text() == '{"n":0}\n{"n":1}\n'
    found = manifest.read(path)
    assert found is not None
    assert found["complete"] is True
    assert found["identity"] == json.loads(json.dumps(IDENTITY))
    assert found["fingerprint"] == manifest.fingerprint(IDENTITY) == manifest.fingerprint_of(path)
    assert found["counts"] == {"items": 2, "rows": 2, "rejects": {"empty": 1}}
    assert found["tokens"] == {"prompt": 4, "cached": 1, "generated": 6}
    assert found["files"]["critiques.jsonl"] == {"bytes": 16, "digest": manifest.digest_of(path)}
    [made_by] = found["made_by"]
    assert made_by["cai"] and made_by["libraries"]["torch"]
    assert found["started"] <= found["finished"]


def test_a_finished_output_has_nothing_left_to_do(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    assert not is_complete(path, IDENTITY)
    make(path)
    assert is_complete(path, IDENTITY)
    assert open_output(path, IDENTITY) is None
    assert not list(tmp_path.glob(".*"))


def test_the_journal_stays_until_the_manifest_has_its_last_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jsonl"
    output = open_output(path, {})
    assert output is not None
    output.write(KEY, (0,), [{"n": 0}], (0, 0, 0))
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(manifest, "write", interrupted)
        output.finish()
    output.close()
    output = open_output(path, {})
    assert output is not None and output.found(KEY, (0,)) is not None
    output.close()


def interrupted(*_: Any) -> None:
    raise KeyboardInterrupt


def test_what_a_kill_leaves_after_the_last_word_is_cleared_away(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    make(path)
    before = {one.name for one in tmp_path.iterdir()}
    for left in (journal_of(path), lock_of(path)):
        left.write_bytes(b"1")
        assert is_complete(path, IDENTITY)
        assert {one.name for one in tmp_path.iterdir()} == before


def change(*path: str, to: Any) -> dict[str, Any]:
    """The identity with one value changed, or taken out (`...`)."""
    identity: dict[str, Any] = json.loads(json.dumps(IDENTITY))
    table = identity
    for key in path[:-1]:
        table = table[key]
    if to is ...:
        del table[path[-1]]
    else:
        table[path[-1]] = to
    return identity


PRINCIPLE = ("stage", "constitution", "principles")
CHANGES = [
    (change(*PRINCIPLE, "no-weapons", to="e" * 32), "another constitution (principle 'no-weapons' changed)"),
    (change(*PRINCIPLE, "new", to="e" * 32), "another constitution (principle 'new' added)"),
    (change(*PRINCIPLE, "kind", to=...), "another constitution (principle 'kind' taken out)"),
    (
        change("stage", "constitution", "weights", "kind", to=2.0),
        "another constitution (weight of principle 'kind': 1.0 -> 2.0)",
    ),
    (change("stage", "constitution", to=None), "another constitution (stage constitution changed)"),
    (change("stage", "temperature", to=1.0), "other settings (stage temperature: 0.7 -> 1.0)"),
    (change("stage", "stop", to=[]), "other settings (stage stop changed)"),
    (change("stage", "kind", to="revise"), 'other settings (stage kind: "critique" -> "revise")'),
    (change("engine", "model", to="e" * 32), "another engine (engine model changed)"),
    (change("inputs", to=["e" * 32]), "other inputs (inputs changed)"),
    (change("limit", to=5), "other settings (limit added)"),
]


@pytest.mark.parametrize(("identity", "words"), CHANGES)
@pytest.mark.parametrize("finish", [True, False])
def test_an_output_is_never_continued_under_another_identity(
    tmp_path: Path, identity: dict[str, Any], words: str, finish: bool
) -> None:
    path = tmp_path / "critiques.jsonl"
    make(path, finish=finish)
    before = {one.name: one.read_bytes() for one in tmp_path.iterdir()}
    said = refused(path, identity)
    assert said == f"{path} was made with {words}; start a new run, or --redo (of cai run: --redo critiques)"
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == before
    assert is_complete(path, IDENTITY) is finish


def test_many_changes_are_counted_and_kinds_of_change_joined(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    make(path)
    said = refused(path, {"stage": {"kind": "x", "a": 1, "b": 2}, "engine": None, "inputs": []})
    assert said == (
        f"{path} was made with another constitution and another engine and other inputs and other settings "
        '(stage kind: "critique" -> "x", stage temperature taken out, stage stop taken out, and 5 more); '
        "start a new run, or --redo (of cai run: --redo a)"
    )


def test_what_was_begun_but_holds_nothing_may_begin_again_under_another_identity(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    output = open_output(path, {"a": 1})
    assert output is not None
    output.close()
    make(path, {"a": 2})
    assert (manifest.read(path) or {})["identity"] == {"a": 2}


def test_a_file_that_cai_did_not_make_is_never_overwritten(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.jsonl", {"prompt": "x"})
    expected = f"{path}: cai did not make this file; give another output, or move that file away"
    assert refused(path, IDENTITY) == expected
    with pytest.raises(CaiError) as error:
        discard(path)
    assert str(error.value) == expected
    path.rename(tmp_path / "mine.jsonl.partial")
    assert refused(path, IDENTITY).startswith(f"{path}.partial: cai did not make this file")
    (tmp_path / "mine.jsonl.partial").unlink()
    (tmp_path / "mine.json").write_text('{"something": "else"}')
    assert refused(path, IDENTITY) == (
        f"{tmp_path}/mine.json: this is no manifest of cai's; move it away, or give another output"
    )


def test_an_output_must_be_jsonl(tmp_path: Path) -> None:
    with pytest.raises(CaiError) as error:
        open_output(tmp_path / "a.json", {})
    assert str(error.value) == f"{tmp_path}/a.json: an output is a .jsonl file; write a.jsonl"


def test_an_output_that_was_edited_is_not_taken_for_ours(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    make(path)
    with path.open("a") as file:
        file.write("{}\n")
    expected = (
        f"{path}: this file was changed after cai made it; "
        "put the old one back, or --redo (of cai run: --redo a)"
    )
    assert refused(path, IDENTITY) == expected


@pytest.mark.parametrize("name", ["a.jsonl", "a.rejects.jsonl"])
def test_an_output_with_a_file_gone_is_made_again(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.jsonl"
    make(path)
    before = {one.name: one.read_bytes() for one in tmp_path.glob("*.jsonl")}
    (tmp_path / name).unlink()
    assert not is_complete(path, IDENTITY)
    make(path)
    assert {one.name: one.read_bytes() for one in tmp_path.glob("*.jsonl")} == before


def test_discard_leaves_nothing(tmp_path: Path) -> None:
    make(tmp_path / "a.jsonl")
    make(tmp_path / "b.jsonl", finish=False)
    for name in ("a", "b", "never"):
        discard(tmp_path / f"{name}.jsonl")
    assert not list(tmp_path.iterdir())


def test_a_rejects_file_of_an_earlier_making_does_not_stay(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    make(path)
    path.unlink()
    output = open_output(path, IDENTITY)
    assert output is not None
    output.write(KEY, (0,), [{"n": 0}], (0, 0, 0))
    output.finish()
    output.close()
    assert {one.name for one in tmp_path.iterdir()} == {"a.jsonl", "a.json"}


def test_seconds_add_up_over_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jsonl"
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    output = open_output(path, {})
    assert output is not None
    clock[0] += 20
    output.write(KEY, (0,), [{"n": 0}], (0, 0, 5))
    partial = manifest.read(path) or {}
    assert (partial["seconds"], partial["counts"]["items"], partial["complete"]) == (20.0, 1, False)
    output.close()
    output = open_output(path, {})
    assert output is not None
    assert output.found(KEY, (0,)) is not None
    clock[0] += 3
    output.finish()
    output.close()
    whole = manifest.read(path) or {}
    assert (whole["seconds"], whole["tokens"]["generated"]) == (23.0, 5)


def test_code_that_changed_in_the_middle_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jsonl"
    make(path, finish=False)
    monkeypatch.setattr(manifest, "provenance", lambda: {"cai": "9"})
    make(path)
    assert [one["cai"] for one in (manifest.read(path) or {})["made_by"]][1:] == ["9"]


def test_a_full_disk_is_said_and_what_was_whole_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    output = open_output(path, {})
    assert output is not None
    output.write(KEY, (0,), [{"n": 0}], (0, 0, 0))
    real, output._journal._file = output._journal._file, open("/dev/full", "wb", buffering=0)  # noqa: SIM115
    with pytest.raises(CaiError) as error:
        output.write(b"x" * 16, (1,), [{"n": 1}], (0, 0, 0))
    assert str(error.value) == (
        f"{path}.partial: cannot be written (No space left on device); "
        "put that right and run the same command again"
    )
    real.close()
    output.close()
    output = open_output(path, {})
    assert output is not None
    assert output.found(KEY, (0,)) is not None
    assert output.found(b"x" * 16, (1,)) is None
    output.close()


def test_a_damaged_journal_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    make(path, finish=False)
    journal = journal_of(path)
    journal.write_bytes(b"\0" * 7 + b"\n" + journal.read_bytes())
    with pytest.raises(CaiError) as error:
        open_output(path, IDENTITY)
    assert str(error.value) == (
        f"{journal}:1: this line is damaged; "
        "the disk or somebody else wrote to it: start a new run, or redo this step"
    )
    # The claim is not kept.
    discard(path)


def test_the_newest_entry_of_an_item_counts(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.append(KEY, [b"1"], [], (0, 0, 0))
    newest = journal.append(KEY, [b"2", b"3"], [b"4"], (1, 2, 3))
    journal.close()
    journal = Journal(tmp_path / "j")
    assert journal.find(KEY) == newest
    assert journal.read(newest) == ((1, 2, 3), [b"2", b"3"], [b"4"])
    journal.close()


def test_the_fingerprint_of_a_file_is_its_identity_only_while_it_is_whole_and_unchanged(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.jsonl"
    make(path)
    by_identity = manifest.fingerprint_of(path)
    path.write_text('{"n": 0}\n{"n": 2}\n')
    edited = manifest.fingerprint_of(path)
    assert edited != by_identity
    mine = write(tmp_path / "mine.jsonl", {"n": 0}, {"n": 2})
    (tmp_path / "mine.json").write_text("[]")
    assert manifest.fingerprint_of(mine) == edited
    with pytest.raises(CaiError) as error:
        manifest.fingerprint_of(tmp_path / "none.jsonl")
    assert str(error.value) == f"{tmp_path}/none.jsonl: there is no such file; give the path of a .jsonl file"


def test_further_facts_go_into_the_manifest_of_a_complete_output(tmp_path: Path) -> None:
    make(tmp_path / "a.jsonl")
    manifest.add(tmp_path / "a.jsonl", numbers=[{"value": 1}])
    assert (manifest.read(tmp_path / "a.jsonl") or {})["numbers"] == [{"value": 1}]
    assert is_complete(tmp_path / "a.jsonl", IDENTITY)
    make(tmp_path / "b.jsonl", finish=False)
    with pytest.raises(RuntimeError, match="is not complete"):
        manifest.add(tmp_path / "b.jsonl", numbers=[])


def test_a_run_lists_its_outputs_and_models(tmp_path: Path) -> None:
    make(tmp_path / "b.jsonl")
    make(tmp_path / "c.jsonl", finish=False)
    (tmp_path / "other.json").write_text("{}")
    (tmp_path / "model").mkdir()
    note = {"identity": {}, "started": "1999"}
    (tmp_path / "model" / "cai.json").write_text(json.dumps(note))
    listed = runs_in(tmp_path)
    assert [(one.name, one.state) for one in listed] == [
        ("model", "complete"),
        ("b", "complete"),
        ("c", "partial"),
    ]
    assert listed[0].path == tmp_path / "model"
    assert listed[1].manifest["counts"]["rows"] == 2


def test_the_folder_need_not_be_writable_once_all_is_there(tmp_path: Path) -> None:
    path = tmp_path / "run" / "a.jsonl"
    make(path)
    os.chmod(path.parent, 0o500)
    try:
        assert open_output(path, IDENTITY) is None
    finally:
        os.chmod(path.parent, 0o700)
