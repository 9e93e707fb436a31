"""Attacks on a request, read from prompts/attacks/*.toml: wording to talk a model into answering it.

[[attack]]
name = "role-play"
request = "... $request ..."     # the user's message; just the request when left out
system = "..."                   # a system message before it
prefix = "Sure, here is"         # the beginning of the answer, put into the model's mouth
[[attack.shot]]                  # a dialogue before it, as if the model had answered so before
user = "..."
assistant = "..."
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from string import Template
from typing import Any

from cai import shipped
from cai.config import build, read_toml
from cai.errors import CaiError, RowError, suggest
from cai.frames import check_names
from cai.records import Message, Messages, Record, assistant, digest, draw, user
from cai.stages._asking import lead

# What a request that is put as it is goes by.
PLAIN = "none"

# What the `meta` of an attacked prompt says: the attack's name, the record it was made of, which try it is (0
# is without attack), the request itself, and how many messages, system ones apart, the dialogue has without
# what the attack put before it.
ATTACK = "attack"
ATTACKED = "attack_of"
TRY = "attack_try"
REQUEST = "attack_request"
LENGTH = "attack_length"


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One turn of a dialogue that never was."""

    user: str
    assistant: str


@dataclass(frozen=True, kw_only=True)
class Wrapper:
    """One way to put a request. At least one of its parts has to change something."""

    name: str
    request: str = "$request"
    system: str = ""
    prefix: str = ""
    shot: tuple[Shot, ...] = field(default=())

    def __post_init__(self) -> None:
        if not self.name.strip() or self.name == PLAIN:
            raise ValueError(f"'name' is '{self.name}'; give it a name of its own")
        check_names("request", self.request, {"request"})
        if self.request == "$request" and not (self.system or self.prefix or self.shot):
            raise ValueError("it changes nothing; give it a request, a system, a prefix or a shot")

    @property
    def fingerprint(self) -> str:
        shots = [[shot.user, shot.assistant] for shot in self.shot]
        return digest("attack", self.request, self.system, self.prefix, shots)

    def on(self, prompt: Messages) -> Messages:
        """The prompt with its last message attacked."""
        asked = Template(self.request).substitute(request=prompt[-1]["content"])
        shots = tuple(
            message for shot in self.shot for message in (user(shot.user), assistant(shot.assistant))
        )
        system: Message = {"role": "system", "content": self.system}
        whole = lead(shots, (*prompt[:-1], user(asked)))
        return (system, *whole) if self.system else whole


@dataclass(frozen=True, kw_only=True)
class Wrappers:
    """A file of attacks, each with a name of its own."""

    wrappers: tuple[Wrapper, ...]

    @classmethod
    def from_toml(cls, value: Any, where: str) -> "Wrappers":
        """The attacks that a configuration key names: a path, or the bare name of shipped ones."""
        if not isinstance(value, str | Path):
            raise CaiError(f"this is {value!r}", where=where, next="write the path of a file of attacks")
        path = shipped.find("prompts/attacks", str(value), where)
        return cls(wrappers=tuple(_read(path)))

    @cached_property
    def fingerprint(self) -> str:
        return digest("attacks", sorted((one.name, one.fingerprint) for one in self.wrappers))

    def drawn(self, count: int, seed: int, id: str) -> list[Wrapper]:
        """`count` attacks on one request: without replacement, and from all of them anew where they run out.

        A function of the seed, the request's id and the attacks' names.
        """
        found: list[Wrapper] = []
        while len(found) < count:
            round = len(found) // len(self.wrappers)
            found += sorted(self.wrappers, key=lambda one: draw(seed, id, "attack", round, one.name))
        return found[:count]


def _read(path: Path) -> Sequence[Wrapper]:
    table = read_toml(path)
    for name in table:
        if name != "attack":
            raise CaiError(f"unknown table '{name}'", where=str(path), next=suggest(name, ["attack"]))
    tables = table.get("attack")
    if not isinstance(tables, list) or not tables or not all(isinstance(one, dict) for one in tables):
        raise CaiError("there is no attack in it", where=str(path), next="add an [[attack]] table")
    attacks = [build(Wrapper, one, f"{path} [attack.{at}]") for at, one in enumerate(tables, start=1)]
    names = [one.name for one in attacks]
    for name in names:
        if names.count(name) > 1:
            raise CaiError(f"two attacks are called '{name}'", where=str(path), next="give each its own name")
    return attacks


def attacked_from(record: Record, prompt: Messages, attack: str, at: int) -> Record:
    """The record of try `at` on `record`: `prompt` is the request as `attack` puts it.

    It keeps the prompt's id, so that all tries on a request are in one shard and on one side of a split.
    """
    return replace(
        record,
        id=digest("attack", record.id, attack, at),
        prompt=prompt,
        meta={
            **record.meta,
            ATTACK: attack,
            ATTACKED: record.id,
            TRY: at,
            REQUEST: record.prompt[-1]["content"],
            LENGTH: sum(message["role"] != "system" for message in record.prompt),
        },
    )


def unattacked(record: Record) -> Messages:
    """The dialogue that an attacked prompt was made of, but for a system message.

    Raises `RowError` for a record that the stage `attack` did not write.
    """
    if ATTACK not in record.meta:
        raise RowError(f"'{ATTACK}' is missing", next="give what the stage attack wrote")
    length = int(record.meta[LENGTH])
    return (*record.prompt[len(record.prompt) - length : -1], user(str(record.meta[REQUEST])))
