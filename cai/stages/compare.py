"""AI feedback: which of two answers to one prompt a principle prefers, by a judge."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import ClassVar, Literal

from cai.config import identity, key
from cai.constitution import Constitution, Principle
from cai.judges import Appointed, Unreadable, Verdict
from cai.records import Annotation, Comparison, Record, Reject, Row, digest, draw, draw_seed
from cai.stages import Asking, together
from cai.stages._asking import reject
from cai.stages._pairing import Answer, candidate, in_drawn_order, pair_id

TIE_MARGIN = 0.05


def _reasoned() -> Appointed:
    return Appointed.from_toml("reasoned", "compare judge")


@dataclass(frozen=True, kw_only=True)
class Compare:
    """All answers to a prompt, from one file or several, meet in pairs; a principle is drawn for each pair.

    The judge sees both orders, and the probabilities kept are their average.
    """

    constitution: Constitution = key(
        help="The principles: a TOML file, or the name of a shipped constitution."
    )
    judge: Appointed = key(
        factory=_reasoned,
        help="The judge; in a recipe, also a table of its type and its own keys [reasoned].",
    )
    pairing: Literal["all", "adjacent"] = key(
        "all", "Which answers meet: all pairs, or neighbours in the file."
    )
    per_prompt: int = key(0, "The most comparisons of one prompt, drawn; 0: all.")
    ties: Literal["keep", "reject"] = key("keep", "What becomes of a verdict near 0.5.")
    tie_margin: float | None = key(None, f"How near 0.5 a tie is, for ties = reject [{TIE_MARGIN}].")
    disagreements: Literal["keep", "reject"] = key(
        "keep", "What becomes of orders that name different winners."
    )
    seed: int = key(0, "Seed of all draws.")

    takes: ClassVar[type] = Record
    makes: ClassVar[type] = Comparison
    groups: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.per_prompt < 0:
            raise ValueError(f"'per_prompt' is {self.per_prompt}; write 0 or a number above it")
        if self.tie_margin is not None and self.ties == "keep":
            raise ValueError("'tie_margin' has no use while ties are kept; add ties = \"reject\"")
        if self.tie_margin is not None and not 0 < self.tie_margin < 0.5:
            raise ValueError(f"'tie_margin' is {self.tie_margin:g}; write a number between 0 and 0.5")

    def work(self, records: Sequence[Record]) -> Asking[list[Row]]:
        answers, rows = _distinct(records)
        if len(answers) == 1 and sum(record.answer is not None for record in records) == 1:
            [(record, _)] = answers
            return [
                *rows,
                reject(record, "compare", "no rival", "compare takes two answers to a prompt or more"),
            ]
        judged = yield from together([self._compare(pair) for pair in self._pairs(answers)])
        return [*judged, *rows]

    def _pairs(self, answers: Sequence[Answer]) -> list[tuple[Answer, Answer]]:
        pairs = list(combinations(answers, 2) if self.pairing == "all" else pairwise(answers))
        if self.per_prompt:
            pairs = sorted(pairs, key=lambda pair: draw(self.seed, pair_id(pair), "taken"))[: self.per_prompt]
        return [in_drawn_order(pair, self.seed) for pair in pairs]

    def _compare(self, pair: tuple[Answer, Answer]) -> Asking[Row]:
        id, (record, first), (_, second) = pair_id(pair), *pair
        principle = self.constitution.pick(self.seed, id, "principle")
        asking = self.judge.judge.judge(
            record.prompt, first.text, second.text, principle, draw_seed(self.seed, id, "judge")
        )
        verdict = yield from asking
        if refusal := self._refusal(verdict):
            reason, detail, raw = refusal
            return Reject(
                id=digest("reject", "compare", id),
                item=id,
                prompt_id=record.prompt_id,
                stage="compare",
                reason=reason,
                detail=f"{detail}; principle '{principle.id}'",
                raw=raw,
            )
        assert isinstance(verdict, Verdict)
        annotation = self._annotation(principle, verdict)
        return Comparison(
            id=id,
            prompt_id=record.prompt_id,
            prompt=record.prompt,
            meta=record.meta,
            candidates=tuple(map(candidate, pair)),
            annotations=(annotation,),
            probabilities=annotation.probabilities,
        )

    def _refusal(self, verdict: Verdict | Unreadable) -> tuple[str, str, str] | None:
        """Reason, detail and raw text of a verdict that makes no comparison."""
        if isinstance(verdict, Unreadable):
            return "unreadable", verdict.reason, verdict.raw
        ahead, behind = verdict.orders
        detail = f"P(first) {ahead:.3f} shown first, {behind:.3f} shown second"
        if self.disagreements == "reject" and not verdict.agree:
            return "orders disagree", detail, verdict.note
        margin = TIE_MARGIN if self.tie_margin is None else self.tie_margin
        if self.ties == "reject" and abs(verdict.p_first - 0.5) < margin:
            return "tie", detail, verdict.note
        return None

    def _annotation(self, principle: Principle, verdict: Verdict) -> Annotation:
        return Annotation(
            annotator=self.judge.name,
            principle=principle.id,
            protocol="both orders",
            probabilities=(verdict.p_first, 1 - verdict.p_first),
            orders=tuple((p_first, 1 - p_first) for p_first in verdict.orders),
            shown=((0, 1), (1, 0)),
            agree=verdict.agree,
            note=verdict.note,
            wording=digest(identity(self.judge.judge), principle.fingerprint),
            model=verdict.model,
            weights=verdict.weights,
        )


def _distinct(records: Sequence[Record]) -> tuple[list[Answer], list[Row]]:
    """The answers that differ, and a `Reject` for each that repeats one or is none."""
    answers: dict[str, Answer] = {}
    rejects: list[Row] = []
    for record in records:
        turn = record.answer
        if turn is None:
            rejects.append(
                reject(record, "compare", "no answer", "compare takes what generate or revise wrote")
            )
        elif (text := turn.text.strip()) in answers:
            same = answers[text][0].id
            rejects.append(reject(record, "compare", "identical", f"the same text as {same}", turn.text))
        else:
            answers[text] = (record, turn)
    return list(answers.values()), rejects
