"""TOML tables become frozen dataclasses, or an error that names the key."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from cai.config import build, execution, identity, key, read_toml
from cai.errors import CaiError


@dataclass(frozen=True, kw_only=True)
class Inner:
    size: int = 1


class Wording:
    """A value that builds itself and stands for itself by its fingerprint."""

    fingerprint = "f00d"

    @classmethod
    def from_toml(cls, value: Any, where: str) -> "Wording":
        if value != "known":
            raise CaiError(f"no wording '{value}'", where=where)
        return cls()


@dataclass(frozen=True, kw_only=True)
class Plugin:
    samples: int = key(help="how many")
    rate: float = 1.0
    strict: bool = False
    mode: Literal["all", "last"] = "all"
    path: Path | None = None
    stop: tuple[str, ...] = ()
    bounds: tuple[float, float] | None = None
    inner: Inner = Inner()
    table: dict[str, int] | None = None
    wording: Wording | None = None
    batch: int = execution(8)

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError(f"'samples' is {self.samples}; write a number above 0")


def test_values_take_the_type_of_their_field() -> None:
    table = {
        "samples": 2,
        "rate": 1,
        "path": "a/b",
        "stop": "x",
        "bounds": [0, 1],
        "inner": {"size": 3},
        "table": {"a": 1},
    }
    built = build(Plugin, table, "x")
    assert (built.samples, built.rate, built.path) == (2, 1.0, Path("a/b"))
    assert isinstance(built.rate, float)
    assert (built.stop, built.bounds) == (("x",), (0.0, 1.0))
    assert built.inner == Inner(size=3)
    assert built.table == {"a": 1}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "r [a]: 'samples' is missing; add samples = ..."),
        ({"samples": 1, "sampels": 2}, "r [a]: unknown key 'sampels'; did you mean 'samples'?"),
        ({"samples": "1"}, "r [a]: 'samples' is '1'; write a whole number"),
        ({"samples": True}, "r [a]: 'samples' is True; write a whole number"),
        ({"samples": 1.0}, "r [a]: 'samples' is 1.0; write a whole number"),
        ({"samples": 1, "rate": "fast"}, "r [a]: 'rate' is 'fast'; write a number"),
        ({"samples": 1, "strict": 1}, "r [a]: 'strict' is 1; write true or false"),
        ({"samples": 1, "mode": "first"}, "r [a]: 'mode' is 'first'; choose one of 'all', 'last'"),
        ({"samples": 1, "stop": 3}, "r [a]: 'stop' is 3; write a list"),
        ({"samples": 1, "stop": [3]}, "r [a]: 'stop' is 3; write a string"),
        ({"samples": 1, "inner": {"sise": 3}}, "r [a] inner: unknown key 'sise'; did you mean 'size'?"),
        ({"samples": 1, "table": [1]}, "r [a]: 'table' is [1]; write a table"),
        ({"samples": 1, "wording": "unknown"}, "r [a] wording: no wording 'unknown'"),
        ({"samples": 0}, "r [a]: 'samples' is 0; write a number above 0"),
    ],
)
def test_what_is_wrong_is_named(table: dict[str, Any], message: str) -> None:
    with pytest.raises(CaiError) as caught:
        build(Plugin, table, "r [a]")
    assert str(caught.value) == message


def test_identity_leaves_out_what_changes_no_answer() -> None:
    plugin = build(Plugin, {"samples": 2, "wording": "known", "path": "a/b", "batch": 99}, "x")
    assert identity(plugin) == {
        "samples": 2,
        "rate": 1.0,
        "strict": False,
        "mode": "all",
        "path": "a/b",
        "stop": [],
        "bounds": None,
        "inner": {"type": "Inner", "size": 1},
        "table": None,
        "wording": "f00d",
    }


def test_a_file_that_is_no_toml_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text("a = 1\nb = = 2\n")
    with pytest.raises(CaiError) as caught:
        read_toml(path)
    assert str(caught.value) == (
        f"{path}: this is no valid TOML: Invalid value (at line 2, column 5); mend that line"
    )
