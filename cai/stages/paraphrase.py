"""Have a model put requests in other words; `generate` answers them, `robustness` looks at the answers."""

from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from string import Template
from typing import Any, ClassVar

from cai import shipped
from cai.attacks import ATTACK, PLAIN, attacked_from
from cai.config import build, key, read_toml
from cai.detectors.phrases import default_phrases
from cai.engines import Reply, Request
from cai.errors import CaiError
from cai.frames import check_names, closed, tags
from cai.records import Messages, Record, Row, digest, draw_seed, user
from cai.stages import Asking
from cai.stages._asking import Writing, no_text, reject
from cai.stages.screen import Phrases

PARAPHRASE = "paraphrase"
SHOWN = ("request",)


@dataclass(frozen=True, kw_only=True)
class Rewording:
    """What a model is asked, with $request between tags."""

    request: str

    def __post_init__(self) -> None:
        check_names("request", self.request, set(SHOWN))
        tags(self.request, SHOWN)

    @classmethod
    def from_toml(cls, value: Any, where: str) -> "Rewording":
        """The wording that a configuration key names: a path, or the bare name of a shipped one."""
        if not isinstance(value, str | Path):
            raise CaiError(f"this is {value!r}", where=where, next="write the path of a file with 'request'")
        path = shipped.find("prompts/paraphrases", str(value), where)
        return build(cls, read_toml(path), str(path))

    @cached_property
    def fingerprint(self) -> str:
        return digest("rewording", self.request)

    def ask(self, text: str) -> str:
        return Template(self.request).substitute(request=closed(text, self.request, SHOWN))


@cache
def default_rewording() -> Rewording:
    """The shipped wording."""
    return Rewording.from_toml("default", "wording")


@dataclass(frozen=True, kw_only=True)
class Paraphrase(Writing):
    """Only the last message is reworded; what comes out as it was, twice, or as a refusal is rejected.

    A model may answer the request instead, and no rule here sees that: look at some before you count on them.
    """

    samples: int = key(4, "Paraphrases of each request.")
    wording: Rewording = key(factory=default_rewording, help="What the model is asked: a TOML file.")
    phrases: Phrases = key(factory=default_phrases, help="The phrases of a refusal: a TOML file.")
    plain: bool = key(False, "Also pass each request on once as it is.")

    takes: ClassVar[type] = Record
    makes: ClassVar[type] = Record
    groups: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples < 1:
            raise ValueError(f"'samples' is {self.samples}; write a number above 0")

    @cached_property
    def _refusals(self) -> Phrases:
        """Without the openers: many a request begins with "I can't" too."""
        return replace(self.phrases, openers=())

    def work(self, record: Record) -> Asking[list[Row]]:
        if record.turns:
            return [reject(record, PARAPHRASE, "already answered", "paraphrase takes prompts")]
        if ATTACK in record.meta:
            return [reject(record, PARAPHRASE, "already attacked", "paraphrase takes prompts as they are")]
        messages: Messages = (user(self.wording.ask(record.prompt[-1]["content"])),)
        replies = yield [
            Request(
                messages=messages,
                want=self.sampling,
                seed=draw_seed(self.seed, record.id, PARAPHRASE, sample),
            )
            for sample in range(self.samples)
        ]
        rows: list[Row] = [attacked_from(record, record.prompt, PLAIN, 0)] if self.plain else []
        seen = {_words(record.prompt[-1]["content"])}
        for at, reply in enumerate(replies, start=1):
            prompt = (*record.prompt[:-1], user(reply.text.strip()))
            reworded = attacked_from(record, prompt, PARAPHRASE, at)
            fault = _fault(reply, seen, self._refusals)
            rows.append(reject(reworded, PARAPHRASE, *fault, raw=reply.text) if fault else reworded)
            seen.add(_words(reply.text))
        return rows


def _fault(reply: Reply, seen: set[str], refusals: Phrases) -> tuple[str, str] | None:
    """Reason and detail of a reply that is no other way to put the request."""
    if failure := no_text(reply):
        return failure
    if reply.finish == "length":
        return "truncated", "it ended at its token limit"
    if phrase := refusals.found_in(reply.text):
        return "refused", f"'{phrase}'"
    return ("unchanged", "these words were there before") if _words(reply.text) in seen else None


def _words(text: str) -> str:
    return " ".join(text.casefold().split())
