"""What PPO, GRPO and RLOO share: rollouts of the live model, passes over each, an SFT term beside them.

A rollout answers `rollout` prompts `samples` times. Each of its `reuse` passes goes over all of its answers,
prompt by prompt in a new order, `batch_size` * `accumulate` answers an optimizer step.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from cai.config import execution, key
from cai.engines import Sampling
from cai.errors import CaiError
from cai.objectives import Loss, Step
from cai.objectives._keys import above_zero, not_negative
from cai.objectives._passes import heated, measured, moved, pieces
from cai.objectives._prompts import PromptRow, Prompts, sources_of, tokenised
from cai.objectives._reward import EngineTable, Reward
from cai.objectives._rollout import (
    Answer,
    Asked,
    Experience,
    Rollout,
    keep,
    live,
    newest,
    sample,
    write_samples,
)
from cai.objectives.sft import Sft, SftBatch, sft_batch
from cai.records import Record, draw, draw_seed
from cai.training.batches import Batch, collate, column
from cai.training.data import Conversation
from cai.training.distributed import Group
from cai.training.lora import merged_parameters
from cai.training.plan import cut
from cai.training.settings import TrainSettings

LEAST = {"rollout": 1, "samples": 1, "max_tokens": 1, "reuse": 1, "show": 1, "show_every": 1}


@dataclass(frozen=True, kw_only=True)
class RolloutBatch:
    """Answers of one micro-batch; each of `columns` has a number for each of their N tokens."""

    batch: Batch
    columns: Mapping[str, Tensor]  # [N] each
    weights: Tensor  # [N]
    facts: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Demonstrations:
    """Rows of the SFT term; `scale` makes their summed loss the term's part of the step's."""

    batch: SftBatch
    scale: float


@dataclass(frozen=True, kw_only=True)
class Learned:
    """What comes of a rollout's scored answers: see `Rollout`."""

    experiences: list[Experience]
    facts: Mapping[str, float]
    carried: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class OnPolicy:
    """The keys that the three share, and all of the objective but for what it makes of scores.

    `sft` above 0 adds that many times the mean loss per token of demonstrations: then rows with an answer are
    demonstrations and rows without one are prompts; with 0 every row is a prompt. A step has as many
    demonstrations as answers. The loss of a step is the mean over its tokens, however it is cut.

    A model in parts is gathered for a rollout, so each process holds all of the policy while it answers, and
    of policy, reference and value model while these are measured; none of them has gradients there.
    """

    takes: ClassVar[type] = Record
    leaves: ClassVar[type] = Record

    reward: Reward = field(metadata={"help": "what scores answers: cai.objectives._reward", "model": True})
    rollout: int = key(64, "prompts of a rollout")
    samples: int = key(1, "answers to each of them")
    max_tokens: int = key(256, "the most tokens of an answer")
    temperature: float = key(1.0, "of the sampling, and of the policy that is trained")
    reuse: int = key(4, "passes over the answers of a rollout")
    clip: float = key(0.2, "how far a token's probability may move from the rollout's, as a fraction")
    clip_high: float | None = key(None, "the same upwards, if that is to differ")
    missing_end: float = key(1.0, "taken off the score of an answer that was cut off at max_tokens")
    stop_kl: float | None = key(None, "no further pass over a rollout from so much KL per token on")
    sft: float = key(0.0, "weight of the SFT term on rows that have an answer")
    too_long: Literal["error", "skip"] = key("error", "prompts that leave no room for max_tokens")
    engine: EngineTable | None = key(None, "an engine for the rollouts that can be given new weights")
    show: int = execution(16, help="answers of a rollout that are kept for a reader and for evals")
    show_every: int = execution(10, help="rollouts between two of which answers are kept")

    def __post_init__(self) -> None:
        for name, least in LEAST.items():
            if getattr(self, name) < least:
                raise ValueError(f"'{name}' is {getattr(self, name)}; it must be at least {least}")
        for name in ("temperature", "clip", "clip_high", "stop_kl"):
            if getattr(self, name) is not None:
                above_zero(self, name)
        for name in ("missing_end", "sft"):
            not_negative(self, name)
        if self.reuse == 1 and self.stop_kl is not None:
            raise ValueError("'stop_kl' has no effect with reuse = 1; leave it out")
        if self.samples < self.reward.kind.rivals:
            alone = "the judge compares answers to one prompt"
            raise ValueError(f"'samples' is {self.samples}; {alone}, so it must be at least 2")

    @property
    def needs(self) -> frozenset[Path]:
        """Folders that have to be there before it runs."""
        return self.reward.kind.needs

    def sources(
        self, rows: Iterable[Record], weight: float = 1.0
    ) -> tuple[list[Conversation], Mapping[str, int]]:
        return sources_of(rows, weight, demonstrate=self.sft > 0)

    def prepare(self, sources: Sequence[Conversation], tokenizer: Any, limit: int) -> Prompts:
        return tokenised(
            sources, tokenizer, limit, room=self.max_tokens, too_long=self.too_long, sft=self.sft
        )

    def setup(self, model: Any, data: Prompts, cache: Path, group: Group) -> Prompts:
        """Add the scorer, the reference (the policy as it starts), and the engine if one is given."""
        if self.engine is not None and group.world > 1:
            alone = "rollouts by an engine are for one process"
            raise CaiError(alone, next="leave processes and nproc out")
        session = None if self.engine is None else self.engine.engine.open()
        if session is not None and not hasattr(session, "load_weights"):
            fixed = "the engine of the rollouts cannot be given new weights while training goes on"
            raise CaiError(fixed, next="use type = \"vllm\", or leave 'engine' out")
        reference = group.frozen(self.policy(model))
        scorer = self.reward.kind.open(str(model.device))
        return replace(data, folder=cache, scorer=scorer, reference=reference, session=session)

    def steps(self, data: Prompts, settings: TrainSettings) -> int:
        if settings.batch_size is None:
            unused = "'tokens_per_batch' is for rows that are known before the run"
            raise CaiError(unused, next="set batch_size, the answers of a micro-batch")
        if settings.lora is not None and settings.lora.dropout:
            noisy = "with 'dropout' an answer is learned from under other odds than it was sampled under"
            raise CaiError(noisy, next="leave it out of 'lora'")
        if settings.steps is not None:
            return settings.steps
        rollouts = math.ceil(len(data.rows) * (settings.epochs or 1) / self.rollout)
        return rollouts * self.reuse * self._steps_a_pass(settings)

    def batches(
        self, model: Any, data: Prompts, settings: TrainSettings, group: Group, start: int
    ) -> Iterator[Step[Any]]:
        assert data.folder is not None
        rollout = newest(data.folder, start)
        # Nobody writes the next one before all have read this one.
        group.wait()
        try:
            for step in range(start, self.steps(data, settings)):
                if rollout is None or self._is_spent(model, rollout, step, settings, group):
                    rollout = self._roll_out(model, data, settings, group, step, rollout)
                yield self._step(model, data, rollout, step, settings, group)
        finally:
            data.scorer.close()
            if data.session is not None:
                data.session.close()

    def loss(self, model: Any, batch: Any) -> Loss:
        if isinstance(batch, Demonstrations):
            loss = Sft().loss(self.policy(model), batch.batch)
            total = loss.total * batch.scale
            return replace(loss, total=self.sft * total, metrics={"sft_loss": total.item()})
        each, seen = self.terms(model, batch)
        weights, whole = batch.weights, float(batch.weights.sum())
        metrics = {name: float((weights * value).sum()) for name, value in seen.items()}
        return Loss(
            total=(weights * each).sum(),
            metrics={**metrics, **{name: value * whole for name, value in batch.facts.items()}},
            names=batch.batch.names,
            tokens=batch.batch.tokens,
        )

    # What each of the three says for itself.

    def policy(self, model: Any) -> Any:
        """The language model of what is trained."""
        return model

    def learn(
        self, model: Any, reference: Any, answers: Sequence[Answer], group: Group, before: Rollout | None
    ) -> Learned:
        """What comes of scored answers; `before` is the rollout before this one."""
        raise NotImplementedError

    def terms(self, model: Any, batch: RolloutBatch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss [N] of each token of a micro-batch, and metrics [N] of each."""
        raise NotImplementedError

    # How a rollout is made and cut into steps.

    def _steps_a_pass(self, settings: TrainSettings) -> int:
        return math.ceil(self.rollout * self.samples / _answers_a_step(settings))

    def _is_spent(
        self, model: Any, rollout: Rollout, step: int, settings: TrainSettings, group: Group
    ) -> bool:
        """Whether all passes over a rollout are done, or the policy has moved too far for another one.

        That is a function of the weights, so that a run that goes on from a checkpoint decides alike.
        """
        passes, place = divmod(step - rollout.first, self._steps_a_pass(settings))
        if passes >= self.reuse:
            return True
        if self.stop_kl is None or place or not passes:
            return False
        examples = [one.example for one in rollout.experiences]

        def numbers(batch: Batch) -> dict[str, Tensor]:
            return {"now": heated(policy, batch, self.temperature).logps}

        with group.gathered(self.policy(model)) as policy, arithmetic(model, settings.dtype):
            now = measured(examples, numbers, model.device, group)
        return moved([one.columns["old"] for one in rollout.experiences], [one["now"] for one in now]) > (
            self.stop_kl
        )

    def _roll_out(
        self,
        model: Any,
        data: Prompts,
        settings: TrainSettings,
        group: Group,
        first: int,
        before: Rollout | None,
    ) -> Rollout:
        assert data.folder is not None
        number = 0 if before is None else before.number + 1
        asked = [one for each in group.share(self._asked(data, settings.seed, number)) for one in each]
        with group.gathered(self.policy(model)) as policy:
            made = group.made(lambda: self._answer(policy, data, asked, number))
        answers = sorted((one for part in made for one in part), key=lambda one: one.place)
        if all(answer.score is None for answer in answers):
            raise CaiError("no answer of a rollout could be scored", next="look at what the reward reads")
        with (
            torch.no_grad(),
            arithmetic(model, settings.dtype),
            group.gathered(model) as whole,
            group.gathered(data.reference) as reference,
        ):
            learned = self.learn(whole, reference, answers, group, before)
        rollout = Rollout(
            number=number,
            first=first,
            experiences=tuple(learned.experiences),
            facts={"rollout": float(number), **_facts(answers), **learned.facts},
            carried=learned.carried,
        )
        if group.rank == 0:
            keep(data.folder, rollout, settings.checkpoint_every + self.reuse * self._steps_a_pass(settings))
            if number % self.show_every == 0:
                write_samples(data.folder, first, answers[: self.show])
        return rollout

    def _asked(self, data: Prompts, seed: int, number: int) -> list[list[Asked]]:
        """The answers that a rollout asks for, by prompt; each epoch has an order of its own."""
        orders: dict[int, list[PromptRow]] = {}
        found = []
        for place in range(number * self.rollout, (number + 1) * self.rollout):
            epoch, at = divmod(place, len(data.rows))
            if epoch not in orders:
                orders[epoch] = sorted(data.rows, key=lambda row: draw(seed, "prompts", epoch, row.name))
            row = orders[epoch][at]
            seeds = [draw_seed(seed, "answer", place, n) for n in range(self.samples)]
            found.append([Asked(row=row, place=place, sample=n, seed=one) for n, one in enumerate(seeds)])
        return found

    def _answer(self, policy: Any, data: Prompts, asked: Sequence[Asked], number: int) -> list[Answer]:
        """Sampled and scored."""
        sampling = Sampling(max_tokens=self.max_tokens, temperature=self.temperature)
        if data.session is None:
            with live(policy, data.tokenizer, len(asked)) as session:
                answers = sample(session, asked, sampling)
        else:
            data.session.load_weights(merged_parameters(policy), f"rollout {number}", "")
            answers = sample(data.session, asked, sampling)
        groups: dict[int, list[Answer]] = {}
        for answer in answers:
            groups.setdefault(answer.place, []).append(answer)
        texts = [(each[0].messages, [one.text for one in each]) for each in groups.values()]
        scores = data.scorer.score(texts)
        return [
            replace(one, score=score)
            for each, scored in zip(groups.values(), scores, strict=True)
            for one, score in zip(each, scored, strict=True)
        ]

    def _step(
        self, model: Any, data: Prompts, rollout: Rollout, step: int, settings: TrainSettings, group: Group
    ) -> Step[Any]:
        passes, place = divmod(step - rollout.first, self._steps_a_pass(settings))
        size = _answers_a_step(settings)
        what = (settings.seed, "pass", rollout.number, passes)
        order = sorted(rollout.experiences, key=lambda one: draw(*what, one.place))
        chosen = order[place * size : (place + 1) * size]
        # Answers that could not be scored weigh nothing; where there are no others, nothing is learned.
        weight = sum(one.weight * len(one.columns["old"]) for one in chosen) or 1.0
        dealt = [
            _deal(
                [len(one.example.ids) for one in chosen],
                lambda micro: [
                    _collate(piece, rollout.facts, model)
                    for piece in pieces([chosen[at] for at in micro], model.device, group)
                ],
                settings,
                group,
            )
        ]
        if self.sft:
            rows = data.demonstrations
            shown = [rows[(step * size + at) % len(rows)] for at in range(len(chosen))]
            scale = weight / sum(row.weight * row.scored for row in shown)
            dealt.append(
                _deal(
                    [len(row.example.ids) for row in shown],
                    lambda micro: [
                        Demonstrations(batch=sft_batch([shown[at] for at in micro], model), scale=scale)
                    ],
                    settings,
                    group,
                )
            )
        # In turn: processes of which one has less to do still make the same passes side by side.
        micros, idle = (
            [one for both in zip(*some, strict=True) for batches in both for one in batches]
            for some in zip(*dealt, strict=True)
        )
        return Step(micros=micros, weight=weight, idle=idle)


def arithmetic(model: Any, dtype: str) -> Any:
    """What the loop computes a loss under, so that the ratio of a first step is 1."""
    return torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=dtype == "bfloat16")


def _answers_a_step(settings: TrainSettings) -> int:
    return (settings.batch_size or 1) * settings.accumulate


def _facts(answers: Sequence[Answer]) -> dict[str, float]:
    scores = [answer.score for answer in answers if answer.score is not None]
    count = len(answers)
    return {
        "reward": sum(scores) / len(scores),
        "unscored": 1 - len(scores) / count,
        "length": sum(len(answer.tokens) for answer in answers) / count,
        "ended": sum(answer.ended for answer in answers) / count,
    }


def _deal(
    lengths: Sequence[int],
    batches: Callable[[Sequence[int]], list[Any]],
    settings: TrainSettings,
    group: Group,
) -> tuple[list[list[Any]], list[list[Any]]]:
    """The `batches` of this process's micro-batches of a step's rows, which have so many tokens, and of those
    that it computes idly.

    How many micro-batches there are depends on the number of rows alone.
    """
    size, count = settings.batch_size or 1, len(lengths)
    micros = tuple(tuple(range(at, min(at + size, count))) for at in range(0, count, size))
    micros = cut(micros, group.world, lengths)
    return [batches(micro) for micro in group.share(micros)], [batches(micro) for micro in group.idle(micros)]


def _collate(experiences: Sequence[Experience], facts: Mapping[str, float], model: Any) -> RolloutBatch:
    batch = collate([one.example for one in experiences], [one.name for one in experiences], model.device)
    weights = column([one.weight for one in experiences], model)
    names = experiences[0].columns
    return RolloutBatch(
        batch=batch,
        columns={name: torch.cat([one.columns[name] for one in experiences]).to(weights) for name in names},
        weights=weights[batch.rows],
        facts=facts,
    )
