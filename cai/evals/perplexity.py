"""How likely texts are under a model, and how far a model's own answers have drifted from it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from cai.config import key
from cai.engines import Request, Score
from cai.errors import CaiError, RowError
from cai.evals import Number, VerdictRow
from cai.evals._bootstrap import bootstrap
from cai.evals._detecting import answer_of
from cai.evals._intervals import totals
from cai.evals._shares import by, mean, prompts_of, share
from cai.records import Record
from cai.stages import Asking
from cai.stages.likelihood import by_key

if TYPE_CHECKING:
    from cai.evals._bootstrap import Floats

GIVEN = "given texts"
TRUNCATED, UNANSWERED = "truncated", "engine"


@dataclass(frozen=True, kw_only=True)
class Perplexity:
    """Perplexity: exp of the mean -log P of a token, the end of turn included, under the model that is asked.

    Of the newest answers, or with `text` of the texts under that meta key. With `drift`, the meta key that
    the stage `likelihood` wrote, asking the model that gave the answers: drift per token and per answer, the
    mean of log P(that model) - log P(the one asked). Of answers sampled at temperature 1 that is an estimate
    of the KL divergence from the model asked, usually the start. Intervals are over prompts. Answers cut off
    at their token limit are left out and counted, and so are those that the engine cannot score.
    """

    text: str = key("", "The meta key of given texts; empty: the newest answers.")
    drift: str = key("", "The meta key of the answers' log P under their own model; empty: no drift.")

    takes: ClassVar[type] = Record

    def __post_init__(self) -> None:
        if self.text and self.drift:
            raise ValueError("'drift' is of a model's own answers, 'text' names given ones; take one out")

    @property
    def headline(self) -> Sequence[str]:
        return ("perplexity", "drift per token") if self.drift else ("perplexity",)

    def work(self, record: Record) -> Asking[list[VerdictRow]]:
        text, of, finish = self._text(record)
        row: VerdictRow = {
            "record": record.id,
            "prompt": record.prompt_id,
            "request": record.prompt[-1]["content"],
            "text": text,
        }
        if self.drift:
            row["own"] = self._own(record)
        if finish == "length":
            return [{**row, "of": of, "left_out": TRUNCATED}]
        [reply] = yield [Request(messages=record.prompt, want=Score(completion=text))]
        if reply.error:
            return [{**row, "of": of, "left_out": UNANSWERED, "why": reply.error}]
        if not reply.tokens:
            raise CaiError("this engine does not say how many tokens a text has", next="use local or vllm")
        [logp] = reply.logps
        return [{**row, "of": of, "by": reply.model, "logp": logp, "tokens": len(reply.tokens)}]

    def _text(self, record: Record) -> tuple[str, str, str]:
        """The text, whose it is, and why it ended."""
        if not self.text:
            answer = answer_of(record)
            return answer.text, answer.model, answer.finish
        text = record.meta.get(self.text)
        if isinstance(text, str):
            return text, GIVEN, "stop"
        wrong = "is missing" if text is None else f"is {text!r}"
        raise RowError(
            f"'{self.text}' {wrong}",
            next=f'write "{self.text}": "..." in each line, or set text to the key that has it',
        )

    def _own(self, record: Record) -> float:
        """log P of the answer under the model that gave it."""
        own, by = record.meta.get(self.drift), record.meta.get(by_key(self.drift))
        model = answer_of(record).model
        if isinstance(own, float | int) and by == model:
            return float(own)
        wrong = f"was written under {by}, and {model} gave the answer" if by else "is missing"
        raise RowError(
            f"'{self.drift}' {wrong}",
            next="give what the stage likelihood wrote, asking the model that gave the answers",
        )

    def numbers(self, verdicts: Iterable[VerdictRow]) -> list[Number]:
        return [number for of, rows in by("of", verdicts).items() for number in self._numbers(of, rows)]

    def _numbers(self, of: str, rows: Sequence[VerdictRow]) -> list[Number]:
        scored = [row for row in rows if "logp" in row]
        numbers = []
        if scored:
            numbers.append(
                _ratio("perplexity", of, scored, [-float(row["logp"]) for row in scored], exp=True)
            )
        if self.drift and scored:
            apart = [float(row["own"]) - float(row["logp"]) for row in scored]
            numbers.append(_ratio("drift per token", of, scored, apart))
            numbers.append(mean("drift per answer", of, apart, prompts=prompts_of(scored)))
        for why in (TRUNCATED, UNANSWERED):
            left_out = [row.get("left_out") == why for row in rows]
            numbers.append(share(f"left out: {why}", of, left_out, prompts=prompts_of(rows)))
        return numbers


def _ratio(
    name: str, of: str, rows: Sequence[VerdictRow], values: Sequence[float], exp: bool = False
) -> Number:
    """Sum of the values over sum of the rows' tokens, or its exponential, bootstrapped over prompts."""
    sums = totals(
        (row["prompt"], (value, float(row["tokens"]))) for row, value in zip(rows, values, strict=True)
    )

    def statistic(sums: "Floats") -> Any:
        import numpy as np

        per_token = sums[..., 0] / sums[..., 1]
        return np.exp(per_token) if exp else per_token

    value, (low, high) = bootstrap(sums, statistic)
    return Number(name=name, of=of, value=value, low=low, high=high, n=len(rows), unit="plain")
