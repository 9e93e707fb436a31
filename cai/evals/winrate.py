"""Model against model by a judge: who wins how often, and what that says of all of them together."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar, Literal

from cai.config import key
from cai.constitution import Constitution
from cai.errors import CaiError
from cai.evals import Number, VerdictRow
from cai.evals._standings import ELO, WIN_RATE, standings
from cai.judges import Appointed, Verdict
from cai.records import Record, Turn, digest, draw_seed
from cai.stages import Asking, together

Answers = dict[tuple[str, str], tuple[Record, Turn]]


def _reasoned() -> Appointed:
    return Appointed.from_toml("reasoned", "winrate judge")


@dataclass(frozen=True, kw_only=True)
class Winrate:
    """The answers of every two models to a request meet, each sample the other's of the same number.

    A principle is drawn for each meeting, and the judge sees both orders. Identical answers are a tie, and so
    is an exact half; with `ties = "disagreement"`, so is a meeting whose orders name different winners (Zheng
    et al. 2023). A tie is half a win for both. What the judge could not read counts for nobody.

    Win rates are over prompts. Elo is a Bradley-Terry fit with half a win added to both sides of every pair,
    shown so that the first model has 1000 and odds of ten are 400; its intervals are bootstrapped over
    prompts.
    """

    constitution: Constitution = key(help="The principles that the judge goes by.")
    judge: Appointed = key(factory=_reasoned, help="The judge: its type, or a table with its own keys.")
    ties: Literal["even", "disagreement"] = key("disagreement", "What is a tie.")
    seed: int = key(0, "Seed of all draws.")

    takes: ClassVar[type] = Record
    groups: ClassVar[bool] = True
    headline: ClassVar[Sequence[str]] = (WIN_RATE, ELO)

    def work(self, records: Sequence[Record]) -> Asking[list[VerdictRow]]:
        rows = yield from together(
            [
                self._meeting(one, other)
                for answers in _by_request(records)
                for one, other in combinations(answers.values(), 2)
            ]
        )
        return rows

    def _meeting(self, one: tuple[Record, Turn], other: tuple[Record, Turn]) -> Asking[VerdictRow]:
        (record, first), (_, second) = one, other
        id = digest("meeting", record.id, [(turn.model, turn.weights) for turn in (first, second)])
        principle = self.constitution.pick(self.seed, id, "principle")
        row: VerdictRow = {
            "record": record.id,
            "prompt": record.prompt_id,
            "request": record.prompt[-1]["content"],
            "one": first.model,
            "other": second.model,
            "weights_one": first.weights,
            "weights_other": second.weights,
            "answer_one": first.text,
            "answer_other": second.text,
            "length_one": len(first.text),
            "length_other": len(second.text),
            "judge": self.judge.annotator,
            "principle": principle.id,
        }
        if first.text.strip() == second.text.strip():
            return {**row, "outcome": "identical", "won": 0.5}
        verdict = yield from self.judge.judge.judge(
            record.prompt, first.text, second.text, principle, draw_seed(self.seed, id, "judge")
        )
        if not isinstance(verdict, Verdict):
            return {**row, "outcome": "unreadable", "why": verdict.reason, "raw": verdict.raw}
        orders = {f"p_one_{at}": p for at, p in zip(("first", "second"), verdict.orders, strict=False)}
        return {**row, **orders, "outcome": "judged", "p_one": verdict.p_first, "won": self._won(verdict)}

    def _won(self, verdict: Verdict) -> float:
        if verdict.p_first == 0.5 or (self.ties == "disagreement" and not verdict.agree):
            return 0.5
        return 1.0 if verdict.p_first > 0.5 else 0.0

    def numbers(self, verdicts: Iterable[VerdictRow]) -> list[Number]:
        return standings(list(verdicts))


def _by_request(records: Sequence[Record]) -> Iterable[Answers]:
    """The answers to each sample of each request, by who wrote them, in the order of the files."""
    found: dict[str, Answers] = {}
    for record in records:
        answer = record.answer
        if answer is None:
            raise CaiError("there is no answer", where=f"record {record.id}", next="give what generate wrote")
        writer = (answer.model, answer.weights)
        answers = found.setdefault(record.id, {})
        if writer in answers:
            twice = f"'{answer.model}' answers it twice"
            raise CaiError(twice, where=f"record {record.id}", next="give each model's answers once")
        answers[writer] = (record, answer)
    return found.values()
