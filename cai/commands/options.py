"""Options made of dataclass fields, and the options that many commands share.

A plugin's fields are its TOML keys and its command-line options: `max_tokens: int` is `--max-tokens INTEGER`.
"""

import dataclasses
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import tomli

from cai.errors import CaiError, UsageError

if TYPE_CHECKING:
    from cai.engines import Engine

Command = Callable[..., Any]


def field_options(cls: type[Any]) -> list[click.Option]:
    """One option a field; none has a default here, so that defaults live once, in the class."""
    hints = typing.get_type_hints(cls)
    return [_option(field, hints[field.name]) for field in dataclasses.fields(cls) if field.init]


def _option(field: "dataclasses.Field[Any]", hint: Any) -> click.Option:
    kind = _without_none(hint)
    required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    flag = f"--{field.name.replace('_', '-')}"
    names = [f"{flag}/--no-{flag[2:]}" if kind is bool else flag, field.name]
    how = {} if kind is bool else _type(kind)
    # A default of None would count as a value, and a required option as given.
    how |= {"required": True} if required else {"default": None}
    return click.Option(names, help=_help(field, required), show_default=False, **how)


def _help(field: "dataclasses.Field[Any]", required: bool) -> str:
    text = str(field.metadata.get("help", ""))
    if text:
        text = f"{text[0].upper()}{text[1:].rstrip('.')}."
    plain = isinstance(field.default, str | int | float | bool)
    if required or not plain or field.default == "":
        return text
    default = str(field.default).lower() if isinstance(field.default, bool) else field.default
    return f"{text}  [default: {default}]".lstrip()


def _without_none(hint: Any) -> Any:
    if typing.get_origin(hint) not in (types.UnionType, typing.Union):
        return hint
    options = [option for option in typing.get_args(hint) if option is not type(None)]
    return options[0] if len(options) == 1 else str


def _type(kind: Any) -> dict[str, Any]:
    """What click is to make of the value of a field of this type."""
    if kind in (int, float):
        return {"type": kind}
    if typing.get_origin(kind) is typing.Literal:
        return {"type": click.Choice(typing.get_args(kind))}
    if typing.get_origin(kind) is tuple:
        inner = typing.get_args(kind)
        if inner[-1] is Ellipsis:
            return {"type": inner[0] if inner[0] in (int, float) else str, "multiple": True}
        return {"type": inner[0] if inner[0] in (int, float) else str, "nargs": len(inner)}
    return {"type": str}


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given, as a TOML table; a value in braces is read as an inline table."""
    table: dict[str, Any] = {}
    for key, value in values.items():
        if value is None or value == ():
            continue
        inline = isinstance(value, str) and value.startswith("{")
        table[key] = toml_value(value) if inline else list(value) if isinstance(value, tuple) else value
    return table


def toml_value(text: str) -> Any:
    """`text` as TOML reads it (12, 0.5, true, [1, 2], {a = 1}), else as the string that it is."""
    try:
        return tomli.loads(f"value = {text}")["value"]
    except tomli.TOMLDecodeError:
        return text


def settings(pairs: Sequence[str], option: str) -> dict[str, Any]:
    """key=value pairs as a TOML table."""
    table: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"'{pair}' is no key=value", where=option, next=f"write {option} key=value")
        if key in table:
            raise UsageError(f"'{key}' is set twice", where=option, next="set it once")
        table[key] = toml_value(value)
    return table


@contextmanager
def usage(where: str) -> Iterator[None]:
    """Inside, a `CaiError` about `where` itself is a `UsageError`: the command line is at fault."""
    try:
        yield
    except CaiError as error:
        raise (
            UsageError(error.what, where=where, next=error.next) if error.where == where else error
        ) from error


def engine(model: str | None, kind: str | None, pairs: Sequence[str]) -> "Engine":
    """The engine that --model, --engine and --engine-set describe."""
    from cai.steps import engine_of

    if model is None and kind is None:
        raise UsageError("'--model' is missing", next="give a model folder, 'organism', or --engine NAME")
    table = {"type": kind or "local", **({} if model is None else {"model": model})}
    extra = settings(pairs, "--engine-set")
    for key in extra:
        if key in table:
            raise UsageError(f"'{key}' is set twice", where="--engine-set", next=f"leave it to --{key}")
    where = "--engine" if kind else "--model"
    with usage(where):
        return engine_of({**table, **extra}, where)


ENGINE_OPTIONS = (
    click.Option(["--model"], metavar="MODEL", help="Model folder, hub name, or 'organism'."),
    click.Option(
        ["--engine"], metavar="NAME", help="How to run it: local, vllm, scripted, ...  [default: local]"
    ),
    click.Option(
        ["--engine-set", "engine_set"], multiple=True, metavar="KEY=VALUE", help="A key of the engine's own."
    ),
)
RUN_OPTIONS = (
    click.Option(["--redo"], is_flag=True, help="Throw away what is there and make it anew."),
    click.Option(
        ["--dry-run", "dry_run"],
        is_flag=True,
        help="Show the first requests and estimate the tokens; write nothing.",
    ),
    click.Option(["--strict"], is_flag=True, help="Stop at the first bad row instead of rejecting it."),
    click.Option(["--quiet"], is_flag=True, help="Print nothing but errors."),
)
LIMIT = click.Option(["--limit"], type=click.IntRange(min=1), help="Take only the first rows of the input.")
PART = click.Option(
    ["--part"],
    nargs=2,
    type=float,
    metavar="LOW HIGH",
    help="Take only the prompts whose digest, as a number from 0 to 1, is in [LOW, HIGH).",
)


class _ShardType(click.ParamType):  # type: ignore[type-arg]
    """I/N."""

    name = "I/N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from cai.shards import shard_from

        found = shard_from(value) if isinstance(value, str) else value
        return found or self.fail(f"'{value}' is no shard; write I/N, with I from 1 to N", param, ctx)


SHARD = click.Option(
    ["--shard"],
    type=_ShardType(),
    metavar="I/N",
    help="Make only the I-th of N shards, by the prompts' digests. NAME.jsonl is written as "
    "NAME.I-of-N.jsonl, and an input that is there only by shard is read so: every machine is given "
    "the same command but for I. `cai merge` puts the shards together.",
)
OUTPUT = click.Option(["-o", "--output"], required=True, metavar="FILE", help="The .jsonl file to write.")


def with_options(options: Iterable[click.Parameter]) -> Callable[[Command], Command]:
    """A decorator that gives a command ready-made options."""

    def decorate(function: Command) -> Command:
        parameters = getattr(function, "__click_params__", [])
        function.__click_params__ = [*reversed(list(options)), *parameters]  # type: ignore[attr-defined]
        return function

    return decorate


def jsonl(name: str, option: str) -> Path:
    """The path of an output file; it must end with .jsonl, so that its manifest has a name of its own."""
    if not name.endswith(".jsonl") or name == ".jsonl":
        raise UsageError(
            f"'{name}' does not end with .jsonl", where=option, next="give the name of a .jsonl file"
        )
    return Path(name)
