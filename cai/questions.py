"""A question about one answer, read from prompts/questions/*.toml: what a model is asked and may reply.

request = "..."         # a user turn, with $conversation and $answer between tags of their own; or with
                        # neither, and the dialogue itself stands before it
reason = false          # true: the model writes first, until the verdict
verdict = "..."         # the beginning of the reply, or what follows the reasoning
[options]               # label -> what may come straight after the verdict
refused = [" refuses"]

The labels of a question are those of its class. The reply is read as option probabilities: of each label the
sum over its options, all of them normalised to 1.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from string import Template
from typing import Any, ClassVar, Self

from cai import shipped
from cai.config import build, key, read_toml
from cai.engines import Options, Reply, Request, Sampling
from cai.errors import CaiError, suggest
from cai.frames import check_names, closed, tags, transcript
from cai.judges import Unreadable
from cai.judges._mass import check_min_mass, no_verdict
from cai.records import Messages, assistant, digest, user
from cai.stages import Asking

SHOWN = ("conversation", "answer")
MAX_TOKENS = 256


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question; `labels` are what its options may mean, `needless` those it can do without, `fills` the
    names that it fills in beside conversation and answer.
    """

    labels: ClassVar[tuple[str, ...]]
    needless: ClassVar[frozenset[str]] = frozenset()
    fills: ClassVar[frozenset[str]] = frozenset()

    request: str
    options: dict[str, tuple[str, ...]] = field(hash=False)
    verdict: str = ""
    reason: bool = False

    def __post_init__(self) -> None:
        check_names("request", self.request, {*self.filled, *(SHOWN if self.fenced else ())})
        if self.fenced:
            tags(self.request, SHOWN)
        for label in self.options:
            if label not in self.labels:
                raise ValueError(f"'options' has '{label}'; {suggest(label, self.labels)}")
        for label in self.labels:
            if not self.options.get(label) and label not in self.needless:
                raise ValueError(f"'options' has no '{label}'; say how a model would put it")
        listed = self.listed
        if not all(map(str.strip, listed)):
            raise ValueError("'options' holds an empty text; take it out")
        for at, option in enumerate(listed):
            for other in (*listed[:at], *listed[at + 1 :]):
                if other.startswith(option):
                    raise ValueError(f"option '{option}' begins '{other}' too; make them differ earlier")

    @classmethod
    def from_toml(cls, value: Any, where: str) -> Self:
        """The question that a configuration key names: a path, or the bare name of a shipped one."""
        if not isinstance(value, str | Path):
            raise CaiError(f"this is {value!r}", where=where, next="write the path of a question")
        path = shipped.find("prompts/questions", str(value), where)
        return build(cls, read_toml(path), str(path))

    @property
    def fenced(self) -> bool:
        """Whether conversation and answer lie inside the request, between tags that no text can close."""
        return "answer" in Template(self.request).get_identifiers()

    @property
    def listed(self) -> tuple[str, ...]:
        return tuple(option for options in self.options.values() for option in options)

    @cached_property
    def fingerprint(self) -> str:
        return digest("question", self.request, self.options, self.verdict, self.reason)

    @property
    def filled(self) -> frozenset[str]:
        """The names that this question's request must have beside conversation and answer."""
        return self.fills

    def messages(self, prompt: Messages, answer: str, **filled: str) -> Messages:
        """The chat that asks about `answer` to `prompt`."""
        template = Template(self.request)
        if not self.fenced:
            return (*prompt, assistant(answer), user(template.substitute(filled)))
        shown = {
            "conversation": closed(transcript(prompt), self.request, SHOWN),
            "answer": closed(answer, self.request, SHOWN),
        }
        return (user(template.substitute(filled, **shown)),)

    def by_label(self, probabilities: Mapping[str, float]) -> Iterator[tuple[str, float]]:
        """Each label and the probability of all its options."""
        for label in self.labels:
            yield label, math.fsum(probabilities[option] for option in self.options.get(label, ()))


@dataclass(frozen=True, kw_only=True)
class Opinion:
    """What a model makes of an answer: the probability of each label, and the reasoning before it."""

    probabilities: Mapping[str, float]
    note: str = ""
    model: str = ""
    weights: str = ""

    @property
    def says(self) -> str:
        """The likeliest label."""
        return max(self.probabilities, key=lambda label: self.probabilities[label])


@dataclass(frozen=True, kw_only=True)
class Questioning:
    """The keys of what asks a question."""

    min_mass: float = key(0.1, "The least probability that all options together must have.")
    max_tokens: int | None = key(
        None, f"The most tokens of the reasoning, of a question that has one [{MAX_TOKENS}]."
    )

    def __post_init__(self) -> None:
        check_min_mass(self.min_mass)
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError(f"'max_tokens' is {self.max_tokens}; write a number above 0")

    def check_reasoning(self, question: Question) -> None:
        """Refuse, with a `ValueError`, a limit on reasoning that is never asked for."""
        if self.max_tokens is not None and not question.reason:
            raise ValueError("'max_tokens' has no use: the question asks for no reasoning; take it out")

    def put(
        self, question: Question, prompt: Messages, answer: str, **filled: str
    ) -> Asking[Opinion | Unreadable]:
        """Ask `question` about `answer` to `prompt`; without a likeliest label there is no opinion."""
        opinion = yield from self.ask(question, question.messages(prompt, answer, **filled))
        if isinstance(opinion, Unreadable):
            return opinion
        labels = opinion.probabilities
        first, second, *_ = sorted(labels, key=lambda label: -labels[label])
        if labels[first] == labels[second]:
            tied = f"no verdict: {first} and {second} are equally likely"
            return Unreadable(reason=tied, raw=opinion.note)
        return opinion

    def ask(self, question: Question, messages: Messages) -> Asking[Opinion | Unreadable]:
        """Ask in these messages, which end with the question's. Reasoning is greedy, so no seed is needed."""
        reasoning = ""
        if question.reason:
            written = yield from self._reasoning(question, messages)
            if isinstance(written, Unreadable):
                return written
            reasoning = written
        prefix = _joined(reasoning, question.verdict)
        [reply] = yield [Request(messages=messages, want=Options(options=question.listed), prefix=prefix)]
        return self._opinion(question, reply, reasoning)

    def _opinion(self, question: Question, reply: Reply, reasoning: str) -> Opinion | Unreadable:
        """P(label) = p(its options) / p(all options), where all together have at least `min_mass`."""
        if reply.error:
            return Unreadable(reason=f"engine: {reply.error}", raw=reasoning)
        if missing := no_verdict(reply.logps, self.min_mass):
            return Unreadable(reason=missing, raw=reasoning)
        weights = [math.exp(logp) for logp in reply.logps]
        mass = math.fsum(weights)
        shares = {option: weight / mass for option, weight in zip(question.listed, weights, strict=True)}
        return Opinion(
            probabilities=dict(question.by_label(shares)),
            note=reasoning,
            model=reply.model,
            weights=reply.weights,
        )

    def _reasoning(self, question: Question, messages: Messages) -> Asking[str | Unreadable]:
        """What the model writes before its verdict."""
        stop = (question.verdict,) if question.verdict else question.listed
        want = Sampling(max_tokens=self.max_tokens or MAX_TOKENS, temperature=0.0, stop=stop)
        [reply] = yield [Request(messages=messages, want=want)]
        if reply.error:
            return Unreadable(reason=f"engine: {reply.error}")
        if reply.finish == "length":
            return Unreadable(reason="truncated reasoning", raw=reply.text)
        return reply.text


def _joined(reasoning: str, verdict: str) -> str:
    """The verdict goes on where the model stopped before it; after an ending it has a line of its own."""
    if not reasoning or not verdict or reasoning[-1].isspace():
        return reasoning + verdict
    return f"{reasoning}\n{verdict}"
