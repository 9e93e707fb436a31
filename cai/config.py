"""TOML table -> frozen dataclass. The class is its configuration: its fields are the keys a user may write.

A field whose type has a classmethod `from_toml(value, where)` builds itself (a constitution from its path). A
field made with `execution(...)` changes the speed of a run and never its answers, so it is no part of a run's
identity.
"""

import dataclasses
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import tomli

from cai.errors import CaiError, suggest

T = TypeVar("T")


def execution(default: Any, **metadata: Any) -> Any:
    """A dataclass field that is left out of a run's identity: batch sizes, memory, devices."""
    return dataclasses.field(default=default, metadata={"identity": False, **metadata})


def key(default: Any = dataclasses.MISSING, help: str = "", *, factory: Any = dataclasses.MISSING) -> Any:
    """A dataclass field with a line of help for its command-line option; without a default it is required."""
    return dataclasses.field(default=default, default_factory=factory, metadata={"help": help})


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file; `CaiError` names the file, and the line where its syntax breaks."""
    try:
        return tomli.loads(path.read_text(encoding="utf-8"))
    except tomli.TOMLDecodeError as error:
        raise CaiError(f"this is no valid TOML: {error}", where=str(path), next="mend that line") from error
    except UnicodeDecodeError as error:
        raise CaiError("this is no text in UTF-8", where=str(path), next="save it as UTF-8") from error
    except OSError as error:
        unreadable = f"cannot be read ({error.strerror})"
        raise CaiError(unreadable, where=str(path), next="give the path of a TOML file") from error


def build(cls: type[T], table: Mapping[str, Any], where: str) -> T:
    """Make a `cls` of a TOML table; `where` names the table in errors.

    Raises `CaiError` for an unknown, missing or mistyped key, and for a value that `cls.__post_init__`
    refuses with a `ValueError`.
    """
    for fault in key_faults(cls, table, where):
        raise fault
    hints = typing.get_type_hints(cls)
    values = {key: convert(hints[key], value, key, where) for key, value in table.items()}
    try:
        return cls(**values)
    except ValueError as error:
        raise CaiError(str(error), where=where) from error


def key_faults(cls: type[Any], table: Mapping[str, Any], where: str) -> list[CaiError]:
    """An error for each key that `cls` does not know, else for each that it needs and the table lacks."""
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    unknown = [key for key in table if key not in fields]
    if unknown:
        # What is missing may be one of them, misspelt.
        return [CaiError(f"unknown key '{key}'", where=where, next=suggest(key, fields)) for key in unknown]
    missing = [
        name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
        and name not in table
    ]
    return [CaiError(f"'{name}' is missing", where=where, next=f"add {name} = ...") for name in missing]


def convert(kind: Any, value: Any, key: str, where: str) -> Any:
    """`value` as the annotated type `kind`, or a `CaiError` that says what was expected."""
    if hasattr(kind, "from_toml"):
        return value if isinstance(value, kind) else kind.from_toml(value, f"{where} {key}")
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        return _convert_union(kind, value, key, where)
    if origin is typing.Literal:
        return _convert_literal(kind, value, key, where)
    if origin is tuple:
        return _convert_list(kind, value, key, where)
    if origin is dict:
        if not isinstance(value, dict):
            raise mistyped(value, "a table", key, where)
        inner = typing.get_args(kind)[1]
        return {name: convert(inner, item, f"{key}.{name}", where) for name, item in value.items()}
    if dataclasses.is_dataclass(kind) and isinstance(value, Mapping):
        return build(typing.cast(type, kind), value, f"{where} {key}")
    return _convert_plain(kind, value, key, where)


_PLAIN = {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}


def _convert_plain(kind: Any, value: Any, key: str, where: str) -> Any:
    if kind is Path and isinstance(value, str | Path):
        return Path(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind in _PLAIN and type(value) is not kind:
        raise mistyped(value, _PLAIN[kind], key, where)
    return value


def _convert_union(kind: Any, value: Any, key: str, where: str) -> Any:
    options = [option for option in typing.get_args(kind) if option is not type(None)]
    if value is None:
        return None
    for option in options[:-1]:
        try:
            return convert(option, value, key, where)
        except CaiError:
            continue
    return convert(options[-1], value, key, where)


def _convert_literal(kind: Any, value: Any, key: str, where: str) -> Any:
    allowed = typing.get_args(kind)
    if value not in allowed:
        listed = ", ".join(repr(item) for item in allowed)
        raise CaiError(f"'{key}' is {value!r}", where=where, next=f"choose one of {listed}")
    return value


def _convert_list(kind: Any, value: Any, key: str, where: str) -> Any:
    inner = typing.get_args(kind)[0]
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        raise mistyped(value, "a list", key, where)
    return tuple(convert(inner, item, key, where) for item in items)


def mistyped(value: Any, expected: str, key: str, where: str) -> CaiError:
    return CaiError(f"'{key}' is {value!r}", where=where, next=f"write {expected}")


def identity(plugin: Any) -> dict[str, Any]:
    """The fields of a plugin that change its answers, JSON-ready.

    A value with an `identity()` of its own, or else a `fingerprint`, stands for itself by it.
    """
    named: dict[str, Any] = {}
    for field in dataclasses.fields(plugin):
        if field.metadata.get("identity", True):
            named[field.name] = plain(getattr(plugin, field.name))
    return named


def plain(value: Any) -> Any:
    """A value as an identity holds it, JSON-ready."""
    if callable(getattr(value, "identity", None)):
        return value.identity()
    if hasattr(value, "fingerprint"):
        return value.fingerprint
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {"type": type(value).__name__, **identity(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
