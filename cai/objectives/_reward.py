"""What scores the answers of a rollout: a reward model, a function of the user's own, or a judge.

reward = "runs/x/rm"             # the folder of a reward model (in a recipe also an earlier step's name)
reward = "mine.py:score"          # score(prompt, answer) -> float; prompt is a list of messages
reward = { judge = "logprob", constitution = "harmless", engine = { type = "local", model = "M" } }

The judge compares every two answers to a prompt; the score of an answer is the mean probability that it is
the better one. Where no score can be had there is none: None.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar, Protocol

from cai.chat import control_token, load_tokenizer
from cai.config import build, identity, key
from cai.constitution import Constitution
from cai.engines import Engine, Session
from cai.errors import CaiError
from cai.judges import Appointed, Unreadable
from cai.model_folder import resolve
from cai.objectives._rollout import replies_to
from cai.plugins import function
from cai.records import Messages, assistant, digest, draw_seed
from cai.stages import Asking, together
from cai.steps import engine_of
from cai.training.scalar import load_scorer, scores
from cai.weights import weights_digest

Group = tuple[Messages, Sequence[str]]


class Scorer(Protocol):
    """Scores the answers to each of several prompts; `close` frees what it holds."""

    def score(self, groups: Sequence[Group]) -> list[list[float | None]]: ...

    def close(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class RewardModel:
    """A folder with one score for a whole conversation, read by its own tokenizer."""

    rivals: ClassVar[int] = 1

    folder: Path

    @property
    def needs(self) -> frozenset[Path]:
        return frozenset({self.folder})

    def identity(self) -> dict[str, Any]:
        return {"model": weights_digest(resolve(str(self.folder)))}

    def open(self, device: str) -> Scorer:
        return ModelScorer(self.folder, device)


class ModelScorer:
    """A reward model in memory."""

    def __init__(self, folder: Path, device: str) -> None:
        self._tokenizer = load_tokenizer(folder)
        self._model = load_scorer(folder, device=device)

    def score(self, groups: Sequence[Group]) -> list[list[float | None]]:
        talks = [[(*prompt, assistant(text)) for text in answers] for prompt, answers in groups]
        # An answer may spell out a control token in ordinary ones; a reward model would be taken in by it.
        sound = [talk for group in talks for talk in group if self._is_sound(talk)]
        found = dict(zip(map(digest, sound), scores(self._model, self._tokenizer, sound), strict=True))
        return [[found.get(digest(talk)) for talk in group] for group in talks]

    def close(self) -> None:
        del self._model

    def _is_sound(self, talk: Messages) -> bool:
        return bool(talk[-1]["content"].strip()) and control_token(self._tokenizer, talk[-1:]) is None


@dataclass(frozen=True, kw_only=True)
class RewardFunction:
    """A Python function of the user's own; `source` is the digest of its file."""

    rivals: ClassVar[int] = 1

    name: str
    source: str

    @property
    def needs(self) -> frozenset[Path]:
        return frozenset()

    def identity(self) -> dict[str, Any]:
        return {"function": self.name, "source": self.source}

    def open(self, device: str) -> Scorer:
        return self

    def score(self, groups: Sequence[Group]) -> list[list[float | None]]:
        call, _ = function(self.name)
        return [[self._number(call([*prompt], text), text) for text in answers] for prompt, answers in groups]

    def close(self) -> None:
        return None

    def _number(self, value: Any, text: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            wrong = f"reward '{self.name}' gave {value!r} for the answer {text[:40]!r}"
            raise CaiError(wrong, next="let it return a finite number")
        return float(value)


@dataclass(frozen=True, kw_only=True)
class EngineTable:
    """An engine as the value of a key: a table of its type and its own keys."""

    engine: Engine

    @classmethod
    def from_toml(cls, value: Any, where: str) -> "EngineTable":
        if not isinstance(value, Mapping):
            raise CaiError(f"this is {value!r}", where=where, next="write a table with the engine's type")
        return cls(engine=engine_of(value, where))

    def identity(self) -> dict[str, Any]:
        return self.engine.identity()


@dataclass(frozen=True, kw_only=True)
class JudgeReward:
    """A judge under a constitution; a principle is drawn for each pair, as `cai compare` does."""

    # Answers to a prompt that it takes.
    rivals: ClassVar[int] = 2

    judge: Appointed = key(help="the judge: its name, or a table of its type and keys")
    constitution: Constitution = key(help="the principles")
    engine: EngineTable = key(help="the model that judges")
    seed: int = key(0, "seed of the draws")

    @property
    def needs(self) -> frozenset[Path]:
        model = getattr(self.engine.engine, "model", None)
        return frozenset({Path(model)}) if isinstance(model, str) else frozenset()

    def open(self, device: str) -> Scorer:
        return JudgeScorer(self)


class JudgeScorer:
    """A judge's model in memory."""

    def __init__(self, reward: JudgeReward) -> None:
        self._reward = reward
        self._session = reward.engine.engine.open()

    def score(self, groups: Sequence[Group]) -> list[list[float | None]]:
        asking = together([self._group(prompt, answers) for prompt, answers in groups])
        found: list[list[float | None]] = drive(self._session, asking)
        return found

    def close(self) -> None:
        self._session.close()

    def _group(self, prompt: Messages, answers: Sequence[str]) -> Asking[list[float | None]]:
        """The mean probability of each answer to be better than another one of its group."""
        pairs = list(combinations(range(len(answers)), 2))
        judged = yield from together([self._pair(prompt, answers[a], answers[b]) for a, b in pairs])
        won: list[list[float]] = [[] for _ in answers]
        for (a, b), p_first in zip(pairs, judged, strict=True):
            if p_first is not None:
                won[a].append(p_first)
                won[b].append(1 - p_first)
        return [sum(each) / len(each) if each else None for each in won]

    def _pair(self, prompt: Messages, first: str, second: str) -> Asking[float | None]:
        """P(first is better), or None when no verdict could be read."""
        if first == second:
            return 0.5
        reward = self._reward
        id = digest("reward", prompt, sorted((first, second)))
        principle = reward.constitution.pick(reward.seed, id, "principle")
        seed = draw_seed(reward.seed, id, "judge")
        verdict = yield from reward.judge.judge.judge(prompt, first, second, principle, seed)
        return None if isinstance(verdict, Unreadable) else verdict.p_first


@dataclass(frozen=True, kw_only=True)
class Reward:
    """The `reward` key: which of the three kinds it is."""

    kind: RewardModel | RewardFunction | JudgeReward

    @classmethod
    def from_toml(cls, value: Any, where: str) -> "Reward":
        if isinstance(value, Mapping):
            return cls(kind=build(JudgeReward, value, where))
        if not isinstance(value, str | Path) or not str(value):
            ways = 'write the folder of a reward model, "file.py:function", or a table with a judge'
            raise CaiError(f"this is {value!r}", where=where, next=ways)
        if ":" in str(value):
            _, source = function(str(value), where)
            return cls(kind=RewardFunction(name=str(value), source=source))
        return cls(kind=RewardModel(folder=Path(value)))

    def identity(self) -> dict[str, Any]:
        return identity(self.kind) if isinstance(self.kind, JudgeReward) else self.kind.identity()


def drive(session: Session, asking: Asking[Any]) -> Any:
    """Answer what an asking asks until it returns."""
    try:
        requests = next(asking)
        while True:
            requests = asking.send(replies_to(session, requests))
    except StopIteration as stop:
        return stop.value
