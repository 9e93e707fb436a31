"""Ask a model each request in several attacking wordings, for the eval `robustness` to look at."""

from dataclasses import dataclass, replace
from functools import cache
from typing import ClassVar

from cai.attacks import ATTACK, PLAIN, Wrapper, Wrappers, attacked_from
from cai.config import key
from cai.engines import Request
from cai.records import Record, Row, draw_seed
from cai.stages import Asking, together
from cai.stages._asking import Writing, no_text, reject, turn_of


@cache
def default_wrappers() -> Wrappers:
    """The shipped attacks."""
    return Wrappers.from_toml("default", "attacks")


@dataclass(frozen=True, kw_only=True)
class Attack(Writing):
    """Each try is a row: the prompt as it was put, the answer, and in `meta` which attack on what."""

    wrappers: Wrappers = key(factory=default_wrappers, help="The attacks: a TOML file.")
    tries: int = key(8, "Attacks on each request, drawn; each once before any comes again.")
    plain: bool = key(True, "Also ask each request once as it is.")

    takes: ClassVar[type] = Record
    makes: ClassVar[type] = Record
    groups: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tries < 1:
            raise ValueError(f"'tries' is {self.tries}; write a number above 0")

    def work(self, record: Record) -> Asking[list[Row]]:
        if record.turns:
            return [reject(record, "attack", "already answered", "attack takes prompts")]
        if ATTACK in record.meta:
            return [reject(record, "attack", "already attacked", "attack takes prompts as they are")]
        drawn = self.wrappers.drawn(self.tries, self.seed, record.id)
        tries = [self._try(record, at, one) for at, one in enumerate(drawn, start=1)]
        if self.plain:
            tries = [self._try(record, 0, None), *tries]
        return (yield from together(tries))

    def _try(self, record: Record, at: int, one: Wrapper | None) -> Asking[Row]:
        """The request as `one` puts it, or with None as it is. The answer has what it was begun with."""
        prompt, name = (one.on(record.prompt), one.name) if one else (record.prompt, PLAIN)
        attacked = attacked_from(record, prompt, name, at)
        if one and one.system and record.prompt[0]["role"] == "system":
            return reject(
                attacked, "attack", "system message", f"attack '{name}' and the prompt have one each"
            )
        prefix, wording = (one.prefix, one.fingerprint) if one else ("", "")
        seed = draw_seed(self.seed, attacked.id, "response")
        [reply] = yield [Request(messages=prompt, want=self.sampling, prefix=prefix, seed=seed)]
        if failure := no_text(reply):
            return reject(attacked, "attack", *failure, raw=reply.text)
        return attacked.then(turn_of("response", replace(reply, text=prefix + reply.text), wording=wording))
