"""Constitutions: loading, extending, drawing, identity, lint, and every error's text."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cai import shipped
from cai.config import identity
from cai.constitution import Constitution, Principle, load
from cai.errors import CaiError
from cai.stages.critique import Critique


def principle(id: str, weight: float = 1.0, tags: tuple[str, ...] = ()) -> Principle:
    return Principle(
        id=id, critique=f"c {id}", revision=f"r {id}", preference=f"p {id}", weight=weight, tags=tags
    )


def constitution(*principles: Principle) -> Constitution:
    return Constitution(name="test", principles=principles)


def toml(id: str, extra: str = "") -> str:
    return f'[[principle]]\nid = "{id}"\ncritique = "c"\nrevision = "r"\npreference = "p"\n{extra}\n'


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\nabout = "a test"\n' + toml("one", 'weight = 2\ntags = ["x", "y"]'))
    expected = Principle(id="one", critique="c", revision="r", preference="p", weight=2.0, tags=("x", "y"))
    assert load(path) == Constitution(name="mine", about="a test", principles=(expected,))


def test_extends_reads_each_file_once_and_what_is_extended_first(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "a.toml").write_text('name = "a"\n' + toml("a"))
    (tmp_path / "b.toml").write_text('name = "b"\nextends = ["base/a.toml"]\n' + toml("b"))
    top = tmp_path / "top.toml"
    top.write_text('name = "top"\nextends = ["b.toml", "base/a.toml"]\n' + toml("top"))
    loaded = load(top)
    assert loaded.name == "top"
    assert [one.id for one in loaded.principles] == ["a", "b", "top"]


def test_a_file_that_only_extends_is_a_constitution(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('name = "a"\n' + toml("a"))
    (tmp_path / "all.toml").write_text('name = "all"\nextends = ["a.toml"]\n')
    assert [one.id for one in load(tmp_path / "all.toml").principles] == ["a"]


BAD = {
    "syntax": (
        'name = "x"\n[[principle]\n',
        "x.toml: this is no valid TOML: "
        "Expected ']]' at the end of an array declaration (at line 2, column 12); mend that line",
    ),
    "no name": (toml("a"), "x.toml: 'name' is missing; add name = \"...\""),
    "name of another type": ("name = 3\n" + toml("a"), "x.toml: 'name' is 3; write a string"),
    "unknown key": ('nmae = "x"\n', "x.toml: unknown key 'nmae'; did you mean 'name'?"),
    "unknown table": (
        'name = "x"\n[[principles]]\n',
        "x.toml: unknown key 'principles'; did you mean 'principle'?",
    ),
    "one table": (
        'name = "x"\n[principle]\nid = "a"\n',
        "x.toml: 'principle' is {'id': 'a'}; write [[principle]] tables",
    ),
    "a list of texts": (
        'name = "x"\nprinciple = ["be good"]\n',
        "x.toml: 'principle' holds 'be good'; write [[principle]] tables",
    ),
    "empty": ('name = "x"\n', "x.toml: there is no principle in it; add a [[principle]] table"),
    "missing wording": (
        'name = "x"\n[[principle]]\nid = "a"\ncritique = "c"\nrevision = "r"\n',
        "x.toml [principle 'a']: 'preference' is missing; add preference = ...",
    ),
    "missing id": (
        'name = "x"\n' + toml("a") + '[[principle]]\ncritique = "c"\n',
        "x.toml [principle 2]: 'id' is missing; add id = ...",
    ),
    "unknown key of a principle": (
        'name = "x"\n' + toml("a", 'tag = ["t"]'),
        "x.toml [principle 'a']: unknown key 'tag'; did you mean 'tags'?",
    ),
    "blank wording": (
        'name = "x"\n' + toml("a").replace('"c"', '" "'),
        "x.toml [principle 'a']: 'critique' is empty; write it out or take the principle out",
    ),
    "wording of another type": (
        'name = "x"\n' + toml("a").replace('"c"', "7"),
        "x.toml [principle 'a']: 'critique' is 7; write a string",
    ),
    "no weight": (
        'name = "x"\n' + toml("a", "weight = 0"),
        "x.toml [principle 'a']: 'weight' is 0; write a number above 0, or take the principle out",
    ),
    "negative weight": (
        'name = "x"\n' + toml("a", "weight = -0.5"),
        "x.toml [principle 'a']: 'weight' is -0.5; write a number above 0, or take the principle out",
    ),
    "weight not a number": (
        'name = "x"\n' + toml("a", "weight = nan"),
        "x.toml [principle 'a']: 'weight' is nan; write a number above 0, or take the principle out",
    ),
    "endless weight": (
        'name = "x"\n' + toml("a", "weight = inf"),
        "x.toml [principle 'a']: 'weight' is inf; write a number above 0, or take the principle out",
    ),
    "weight of another type": (
        'name = "x"\n' + toml("a", 'weight = "much"'),
        "x.toml [principle 'a']: 'weight' is 'much'; write a number",
    ),
    "taken id": (
        'name = "x"\n' + toml("a") + toml("a"),
        "x.toml [principle 'a']: the id is taken, in x.toml; give it another id",
    ),
    "taken id below": (
        'name = "x"\nextends = ["good.toml"]\n' + toml("good"),
        "x.toml [principle 'good']: the id is taken, in good.toml; give it another id",
    ),
    "extends of another type": (
        'name = "x"\nextends = "good.toml"\n',
        "x.toml: 'extends' is 'good.toml'; write a list of paths",
    ),
    "extends numbers": ('name = "x"\nextends = [1]\n', "x.toml: 'extends' holds 1; write a list of paths"),
    "extends nothing": (
        'name = "x"\nextends = ["no.toml"]\n',
        "x.toml extends: there is no file 'no.toml'; paths are relative to the file that extends",
    ),
    "extends no shipped one": (
        'name = "x"\nextends = ["harmles"]\n',
        "x.toml extends: no constitution is called 'harmles'; did you mean 'harmless'?",
    ),
    "extends itself": (
        'name = "x"\nextends = ["x.toml"]\n',
        "x.toml: it extends itself (x.toml -> x.toml); take one 'extends' out",
    ),
    "extends in a circle": (
        'name = "x"\nextends = ["round.toml"]\n' + toml("a"),
        "x.toml: it extends itself (x.toml -> round.toml -> x.toml); take one 'extends' out",
    ),
}


@pytest.mark.parametrize("text, message", BAD.values(), ids=BAD)
def test_a_bad_file_is_named_with_what_to_do(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("good.toml").write_text('name = "good"\n' + toml("good"))
    Path("round.toml").write_text('name = "round"\nextends = ["x.toml"]\n')
    Path("x.toml").write_text(text)
    with pytest.raises(CaiError) as raised:
        load("x.toml")
    assert str(raised.value) == message


def test_a_file_that_is_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(CaiError, match=r"^x\.toml: this is no text in UTF-8; save it as UTF-8$"):
        load("x.toml")
    with pytest.raises(CaiError) as raised:
        load(".")
    assert str(raised.value) == ".: cannot be read (Is a directory); give the path of a TOML file"


def test_a_key_names_a_path_or_a_shipped_constitution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    by_name = Constitution.from_toml("harmless", "here")
    assert Constitution.from_toml("constitutions/harmless.toml", "here") == by_name
    Path("harmless").write_text('name = "own"\n' + toml("own"))
    assert Constitution.from_toml("harmless", "here").name == "own"


@pytest.mark.parametrize(
    "value, message",
    [
        ("harmles", "here: no constitution is called 'harmles'; did you mean 'harmless'?"),
        ("no/such.toml", "here: there is no file 'no/such.toml'; paths are read from the working directory"),
        ("such.toml", "here: there is no file 'such.toml'; paths are read from the working directory"),
        (3, "here: this is 3; write the path of a constitution"),
    ],
)
def test_a_key_that_names_none(value: object, message: str) -> None:
    with pytest.raises(CaiError) as raised:
        Constitution.from_toml(value, "here")
    assert str(raised.value) == message


def test_wording_is_found_beside_the_package_and_inside_a_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shipped.root("constitutions") == Path(__file__).parents[1] / "constitutions"
    (tmp_path / "shipped" / "constitutions").mkdir(parents=True)
    monkeypatch.setattr(shipped, "PACKAGE", tmp_path)
    assert shipped.root("constitutions") == tmp_path / "shipped" / "constitutions"


def test_principles_are_drawn_by_weight() -> None:
    drawn = constitution(principle("a", 1), principle("b", 2), principle("c", 5))
    counts = Counter(drawn.pick(0, at).id for at in range(8000))
    # Six standard deviations of a binomial with 8000 draws are at most 270.
    assert abs(counts["a"] - 1000) < 180 and abs(counts["b"] - 2000) < 235 and abs(counts["c"] - 5000) < 270


@given(seed=st.integers(0, 2**31), record=st.text(max_size=8), turn=st.integers(0, 9))
def test_a_draw_knows_seed_and_key_only(seed: int, record: str, turn: int) -> None:
    few = [principle(id) for id in "abcd"]
    drawn = constitution(*few).pick(seed, record, turn)
    assert constitution(*reversed(few)).pick(seed, record, turn) == drawn
    # One principle more changes a draw only by being drawn itself.
    assert constitution(*few, principle("e")).pick(seed, record, turn).id in (drawn.id, "e")


def test_identity_names_the_principle_that_changed() -> None:
    few = constitution(principle("a"), principle("b"), principle("c"))
    edited = replace(few.principles[1], critique="another")
    changed = constitution(few.principles[0], edited, few.principles[2])
    before, after = few.identity()["principles"], changed.identity()["principles"]
    assert {id for id in before if before[id] != after[id]} == {"b"}
    assert few.fingerprint != changed.fingerprint
    heavier = constitution(principle("a", 2), *few.principles[1:])
    assert heavier.fingerprints == few.fingerprints and heavier.identity() != few.identity()
    assert identity(Critique(constitution=few))["constitution"] == few.identity()


def test_order_names_and_tags_are_no_identity() -> None:
    one = Constitution(name="x", about="y", principles=(principle("a", tags=("t",)), principle("b")))
    other = Constitution(name="z", principles=(principle("b"), principle("a")))
    assert one.fingerprint == other.fingerprint


def test_a_principle_by_its_id() -> None:
    whole = constitution(principle("a"), principle("b"), principle("c"))
    assert whole.get("b") == whole.principles[1] and whole.get("no") is None
