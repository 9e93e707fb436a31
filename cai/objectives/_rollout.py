"""Answers sampled from the model that is being trained, and what is learned from them, kept on disk.

An answer is a function of the seed, its place in the run and the weights; a rollout is written down before
its first optimizer step, so that a run that is killed in the middle of it goes on with the same answers.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cai.chat import Example
from cai.encoding import encode
from cai.engines import Reply, Request, Sampling, Session
from cai.engines._session import LocalSession
from cai.errors import CaiError
from cai.objectives._prompts import PromptRow
from cai.records import Messages, Record, Scalar, Turn, digest
from cai.training.durable import write_file
from cai.training.files import rollouts_of
from cai.training.layers import uncompiled

TEXTS_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One answer that a rollout asks for: the `sample`-th to the prompt at `place` of the run's prompts."""

    row: PromptRow
    place: int
    sample: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer. `ended` says whether the model ended it; `score` is None where none could be had.

    `logps` are its tokens' log-probabilities in what they were sampled from, or empty if that is not known.
    """

    name: str
    place: int
    prompt: Example
    messages: Messages
    tokens: tuple[int, ...]
    text: str
    ended: bool
    weight: float
    meta: Mapping[str, Scalar]
    logps: tuple[float, ...] = ()
    score: float | None = None

    @property
    def example(self) -> Example:
        mask = (*(False for _ in self.prompt.ids), *(True for _ in self.tokens))
        return Example(ids=(*self.prompt.ids, *self.tokens), mask=mask)


@dataclass(frozen=True, kw_only=True)
class Experience:
    """What an optimizer step reads of one answer; each of `columns` has a number for each of its tokens.

    Among them is always `old`, the log-probability under the policy that sampled it.
    """

    name: str
    place: int
    example: Example
    weight: float
    columns: Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """The answers that a stretch of optimizer steps learns from.

    `first` is the first of those steps, `facts` what is logged with each, `carried` what the next rollout
    goes on from.
    """

    number: int
    first: int
    experiences: tuple[Experience, ...]
    facts: Mapping[str, float]
    carried: Mapping[str, float]


@contextmanager
def live(policy: Any, tokenizer: Any, texts: int) -> Iterator[LocalSession]:
    """A session of the local engine on a model in training, which is left as it was. It has room for so many
    texts at once, up to a limit: the cache of each is memory that has to be filled.
    """
    own = policy.config._attn_implementation
    threads = torch.get_num_threads()
    batch = min(max(texts, 1), TEXTS_AT_ONCE)
    session = LocalSession(policy, tokenizer, label="policy", weights="", batch=batch, threads=threads)
    try:
        with uncompiled(policy):
            yield session
    finally:
        session.close()
        if policy.config._attn_implementation != own:
            policy.set_attn_implementation(own)


def sample(session: Session, asked: Sequence[Asked], sampling: Sampling) -> list[Answer]:
    """The answers that are asked for, in order. Raises `CaiError` for one that the engine does not give."""
    requests = [Request(messages=one.row.messages, want=sampling, seed=one.seed) for one in asked]
    return [_answer(one, reply) for one, reply in zip(asked, replies_to(session, requests), strict=True)]


def sampled_logps(policy: Any, answers: Sequence[Answer]) -> list[Tensor] | None:
    """Of each answer's tokens the log-probability that the policy sampled them with; None if they cannot
    stand in for those of a pass over the whole answers.

    In float32 they are the same but for rounding. Where training computes in bfloat16 they are not, since the
    live model samples in the precision of its weights: the ratio of a first step would not be 1. In float64
    they are less exact.
    """
    narrow = torch.is_autocast_enabled(policy.device.type)
    if narrow or policy.dtype != torch.float32 or not all(answer.logps for answer in answers):
        return None
    return [torch.tensor(answer.logps, dtype=torch.float32) for answer in answers]


def replies_to(session: Session, requests: Sequence[Request]) -> list[Reply]:
    """The reply to each request, in order."""
    for ticket, request in enumerate(requests):
        session.submit(ticket, request)
    replies: dict[int, Reply] = {}
    while len(replies) < len(requests):
        replies.update(session.poll())
    return [replies[ticket] for ticket in range(len(requests))]


def _answer(asked: Asked, reply: Reply) -> Answer:
    row = asked.row
    if reply.error:
        raise CaiError(f"no answer: {reply.error}", where=f"row {row.name}", next="take the row out")
    if not reply.tokens:
        silent = "the engine does not say which tokens it sampled, so they cannot be learned from"
        raise CaiError(silent, next="leave 'engine' out, or use one that does")
    return Answer(
        name=f"{row.name}/{asked.sample}",
        place=asked.place,
        prompt=row.prompt,
        messages=row.messages,
        tokens=reply.tokens,
        logps=reply.sampled_logps,
        text=reply.text,
        ended=reply.finish == "stop",
        weight=row.weight,
        meta=row.meta,
    )


def keep(folder: Path, rollout: Rollout, behind: int) -> None:
    """Write a rollout down; those that began more than `behind` steps before it are deleted."""
    stored = {**vars(rollout), "experiences": [_plain(one) for one in rollout.experiences]}
    write_file(folder / f"rollout-{rollout.first:08d}.pt", lambda path: torch.save(stored, path))
    for first, path in _kept(folder):
        if first < rollout.first - behind:
            path.unlink()


def newest(folder: Path, step: int) -> Rollout | None:
    """The rollout that the optimizer step before `step` learned from, or None before the first."""
    found = [(first, path) for first, path in _kept(folder) if first < step]
    if not found:
        return None
    stored = torch.load(max(found)[1], weights_only=True)
    return Rollout(**{**stored, "experiences": tuple(map(_experience, stored["experiences"]))})


def write_samples(folder: Path, step: int, answers: Sequence[Answer]) -> None:
    """Keep answers of a rollout as records, for a reader and for evals: the policy on its way.

    What they are scored, and the optimizer step that they were sampled before, stand in `meta`; the label
    of the model is the name of what is trained.
    """
    label = folder.name.partition(".")[0]
    lines = [encode(_record(answer, step, label)) + b"\n" for answer in answers]

    def write(path: Path) -> None:
        path.write_bytes(b"".join(lines))

    kept = rollouts_of(folder)
    kept.mkdir(exist_ok=True)
    write_file(kept / f"{step:08d}.jsonl", write)


def _record(answer: Answer, step: int, label: str) -> Record:
    score = {} if answer.score is None else {"score": answer.score}
    turn = Turn(kind="response", text=answer.text, model=label, finish="stop" if answer.ended else "length")
    return Record(
        id=digest("rollout", answer.name, answer.place, step),
        prompt_id=digest("prompt", answer.messages),
        prompt=answer.messages,
        meta={**answer.meta, "step": step, **score},
        turns=(turn,),
    )


def _plain(experience: Experience) -> dict[str, Any]:
    return {**vars(experience), "example": dict(vars(experience.example))}


def _experience(stored: Mapping[str, Any]) -> Experience:
    return Experience(**{**stored, "example": Example(**stored["example"])})


def _kept(folder: Path) -> list[tuple[int, Path]]:
    return [(int(path.stem.split("-")[1]), path) for path in folder.glob("rollout-*.pt")]
