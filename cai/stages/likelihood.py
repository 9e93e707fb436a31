"""Write down how likely each answer is under a model, for `perplexity` to set against another model."""

from dataclasses import dataclass, replace
from typing import ClassVar

from cai.config import key
from cai.engines import Request, Score
from cai.records import Record, Row
from cai.stages import Asking
from cai.stages._asking import reject


def by_key(key: str) -> str:
    """The meta key beside `key` that names the model."""
    return f"{key}_by"


@dataclass(frozen=True, kw_only=True)
class Likelihood:
    """`meta` gets log P of the newest answer, end of turn included, in nats, and the name of the model.

    An answer cut off at its token limit never ended, so it is rejected.
    """

    to: str = key("likelihood", "The meta key to write; the model goes into KEY_by.")

    takes: ClassVar[type] = Record
    makes: ClassVar[type] = Record
    groups: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not self.to.strip():
            raise ValueError("'to' is empty; write the name of a key")

    def work(self, record: Record) -> Asking[list[Row]]:
        answer = record.answer
        if answer is None:
            return [reject(record, "likelihood", "no answer", "likelihood takes what generate wrote")]
        if self.to in record.meta:
            return [reject(record, "likelihood", "key taken", f"'{self.to}' is there; set another 'to'")]
        if answer.finish == "length":
            return [reject(record, "likelihood", "truncated", "it ended at its token limit", answer.text)]
        [reply] = yield [Request(messages=record.prompt, want=Score(completion=answer.text))]
        if reply.error:
            return [reject(record, "likelihood", "engine", reply.error)]
        [logp] = reply.logps
        return [replace(record, meta={**record.meta, self.to: logp, by_key(self.to): reply.model})]
