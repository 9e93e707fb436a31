"""Sample answers to prompts. A request is the prompt alone: no demonstration or principle ever reaches it."""

from dataclasses import dataclass
from typing import ClassVar

from cai.config import key
from cai.engines import Request
from cai.records import Message, Messages, Record, Row, digest, draw_seed, sibling
from cai.stages import Asking
from cai.stages._asking import Writing, no_text, reject, turn_of


@dataclass(frozen=True, kw_only=True)
class Generate(Writing):
    """Each sample is a row of its own, with a seed of its own."""

    samples: int = key(1, "Answers for each prompt.")
    system: str = key("", "A system message for these requests; the rows keep the prompt as it was.")

    takes: ClassVar[type] = Record
    makes: ClassVar[type] = Record
    groups: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples < 1:
            raise ValueError(f"'samples' is {self.samples}; write a number above 0")

    def work(self, record: Record) -> Asking[list[Row]]:
        if record.turns:
            return [reject(record, "generate", "already answered", "generate takes prompts")]
        if self.system and record.prompt[0]["role"] == "system":
            return [reject(record, "generate", "system message", "the prompt has one of its own")]
        siblings = [sibling(record, sample) for sample in range(self.samples)]
        messages = self._messages(record)
        replies = yield [
            Request(messages=messages, want=self.sampling, seed=draw_seed(self.seed, one.id, "response"))
            for one in siblings
        ]
        wording = digest("system", self.system) if self.system else ""
        rows: list[Row] = []
        for one, reply in zip(siblings, replies, strict=True):
            if failure := no_text(reply):
                rows.append(reject(one, "generate", *failure, raw=reply.text))
            else:
                rows.append(one.then(turn_of("response", reply, wording=wording)))
        return rows

    def _messages(self, record: Record) -> Messages:
        system: Message = {"role": "system", "content": self.system}
        return (system, *record.prompt) if self.system else record.prompt
