"""How a judge's word on two answers becomes annotations: shared by `compare` and `annotate`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cai.annotations import Average, mean_first
from cai.config import identity, key
from cai.constitution import Constitution, Principle
from cai.judges import Appointed, Unreadable, Verdict
from cai.judges._quorum import check_quorum, short_of
from cai.records import Annotation, Messages, Reject, digest, draw_seed
from cai.stages import Asking, together

TIE_MARGIN = 0.05
PROTOCOLS = ("rated apart", "one order", "both orders")


def _reasoned() -> Appointed:
    return Appointed.from_toml("reasoned", "compare judge")


@dataclass(frozen=True, kw_only=True)
class Hearing:
    """What came of asking about one pair: annotations, or `refusal`, the reason, detail and raw text of there
    being none. `unread` are those of several that said nothing readable, by name.
    """

    annotations: tuple[Annotation, ...] = ()
    refusal: tuple[str, str, str] | None = None
    unread: tuple[tuple[str, Unreadable], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Judging:
    """The keys of a stage that has pairs judged."""

    constitution: Constitution | None = key(
        None, "The principles: a TOML file, or the name of a shipped constitution. A reward model needs none."
    )
    judge: Appointed = key(
        factory=_reasoned,
        help="The judge; in a recipe, also a table of its type and its own keys [reasoned].",
    )
    principles: int = key(
        1, "The principles that each pair is judged under, drawn; 0: all, by their weights."
    )
    quorum: int | None = key(None, "How many of several principles must give a readable verdict [all].")
    ties: Literal["keep", "reject"] = key("keep", "What becomes of a verdict near 0.5.")
    tie_margin: float | None = key(None, f"How near 0.5 a tie is, for ties = reject [{TIE_MARGIN}].")
    disagreements: Literal["keep", "reject"] = key(
        "keep", "What becomes of orders that name different winners."
    )
    seed: int = key(0, "Seed of all draws.")

    def __post_init__(self) -> None:
        self._check_principles()
        # Its default is the class's own; what differs from it was asked for.
        if self.disagreements != type(self).disagreements and not self.judge.in_both_orders:
            shown = f"judge '{self.judge.name}' does not show both orders"
            raise ValueError(f"'disagreements' has no use: {shown}; take it out")
        if self.tie_margin is not None and self.ties == "keep":
            raise ValueError("'tie_margin' has no use while ties are kept; add ties = \"reject\"")
        if self.tie_margin is not None and not 0 < self.tie_margin < 0.5:
            raise ValueError(f"'tie_margin' is {self.tie_margin:g}; write a number between 0 and 0.5")

    @classmethod
    def spared(cls, table: Mapping[str, Any], where: str) -> set[str]:
        """The keys that a recipe sets for all its steps and a step of this `table` has no use for."""
        judge = Appointed.from_toml(table["judge"], f"{where} judge") if "judge" in table else _reasoned()
        return set() if judge.principled else {"constitution"}

    @property
    def average(self) -> Average:
        """What is averaged over several verdicts: the judge's own way."""
        found: Average = getattr(self.judge.judge, "average", "probability")
        return found

    def opinions(self, prompt: Messages, id: str, first: str, second: str) -> Asking[Hearing]:
        """Ask about the pair called `id`: annotations of the candidates (first, second), in drawn order."""
        drawn = self._drawn(id)
        outcomes = yield from together(
            [
                self._verdict(prompt, first, second, principle, self._seed(id, at, principle))
                for at, (principle, _) in enumerate(drawn)
            ]
        )
        named = [(_under(principle), one) for (principle, _), one in zip(drawn, outcomes, strict=True)]
        if len(named) == 1 and isinstance(outcomes[0], Unreadable):
            return Hearing(refusal=("unreadable", _words(outcomes[0].reason, named[0][0]), outcomes[0].raw))
        if short := short_of(named, self.quorum, "principles"):
            return Hearing(refusal=("unreadable", short.reason, short.raw))
        annotations: list[Annotation] = []
        unread: list[tuple[str, Unreadable]] = []
        for (principle, weight), outcome in zip(drawn, outcomes, strict=True):
            for who, heavy, said in _voices(self.judge, weight, outcome):
                if isinstance(said, Verdict):
                    annotations.append(_annotation(who, principle, heavy, said))
                else:
                    alone = said is outcome
                    unread.append((_words("" if alone else f"'{who.annotator}'", _under(principle)), said))
        return Hearing(annotations=tuple(annotations), unread=tuple(unread))

    def _verdict(
        self, prompt: Messages, first: str, second: str, principle: Principle | None, seed: int
    ) -> Asking[Verdict | Unreadable]:
        # There is no principle only where the judge reads none.
        return self.judge.judge.judge(prompt, first, second, principle, seed)  # type: ignore[arg-type]

    def unsettled(
        self, probabilities: Sequence[float], annotations: Sequence[Annotation]
    ) -> tuple[str, str, str] | None:
        """Why a pair is not to be kept, if it is not: reason, detail and raw text."""
        orders = self._orders(annotations)
        margin = TIE_MARGIN if self.tie_margin is None else self.tie_margin
        agree = len(orders) < 2 or Verdict(p_first=probabilities[0], orders=orders).agree
        if self.disagreements == "reject" and not agree:
            reason = "orders disagree"
        elif self.ties == "reject" and abs(probabilities[0] - 0.5) < margin:
            reason = "tie"
        else:
            return None
        said = [f"{p:.3f} shown {place}" for p, place in zip(orders, ("first", "second"), strict=False)]
        under = dict.fromkeys(f"principle '{one.principle}'" for one in annotations if one.principle)
        detail = _words(f"P(first) {', '.join(said) or f'{probabilities[0]:.3f}'}", *under)
        return reason, detail, "\n".join(one.note for one in annotations if one.note)

    def _orders(self, annotations: Sequence[Annotation]) -> tuple[float, ...]:
        """P(first) with the first candidate shown first, and shown second, over all annotations."""
        found = []
        for shown in ((0, 1), (1, 0)):
            read = [
                (order[0], one.weight)
                for one in annotations
                for order, places in zip(one.orders, one.shown, strict=True)
                if places == shown
            ]
            if read:
                ps, weights = zip(*read, strict=True)
                found.append(mean_first(ps, weights, self.average))
        return tuple(found)

    def _check_principles(self) -> None:
        if self.constitution is None:
            if self.judge.principled:
                raise ValueError("'constitution' is missing; add constitution = ...")
            if self.principles != 1:
                raise ValueError(
                    f"'principles' has no use: judge '{self.judge.name}' reads none; take it out"
                )
        elif not self.judge.principled:
            raise ValueError(f"'constitution' has no use: judge '{self.judge.name}' reads no principle")
        else:
            known = len(self.constitution.principles)
            if not 0 <= self.principles <= known:
                raise ValueError(
                    f"'principles' is {self.principles}; '{self.constitution.name}' has {known}, "
                    "and 0 stands for all"
                )
        if self.quorum is not None and self.principles == 1:
            raise ValueError("'quorum' has no use for a single principle; take it out")
        if self.quorum is not None and self.constitution is not None:
            of = self.principles or len(self.constitution.principles)
            check_quorum(self.quorum, of, "principles")

    def _drawn(self, id: str) -> list[tuple[Principle | None, float]]:
        """The principles of a pair and their weights in the mean: drawn ones have had theirs in the draw."""
        if self.constitution is None:
            return [(None, 1.0)]
        if self.principles == 0:
            return [(one, one.weight) for one in self.constitution.principles]
        drawn = self.constitution.picks(self.principles, self.seed, id, "principle")
        return [(one, 1.0) for one in drawn]

    def _seed(self, id: str, at: int, principle: Principle | None) -> int:
        """The first principle's seed does not depend on how many there are."""
        return draw_seed(self.seed, id, "judge", *((principle.id,) if at and principle else ()))


def rejected(stage: str, id: str, prompt_id: str, refusal: tuple[str, str, str], *, of: str = "") -> Reject:
    """The `Reject` of a pair; `of` tells several of one pair apart."""
    reason, detail, raw = refusal
    return Reject(
        id=digest("reject", stage, id, *((of,) if of else ())),
        item=id,
        prompt_id=prompt_id,
        stage=stage,
        reason=reason,
        detail=detail,
        raw=raw,
    )


def unread_members(stage: str, id: str, prompt_id: str, heard: Hearing) -> list[Reject]:
    """A row for each of several that said nothing readable while the others are enough."""
    return [
        rejected(stage, id, prompt_id, ("unreadable member", f"{one.reason}; {name}", one.raw), of=name)
        for name, one in heard.unread
    ]


def _voices(
    who: Appointed, weight: float, outcome: Verdict | Unreadable
) -> list[tuple[Appointed, float, Verdict | Unreadable]]:
    """Who said what, with which weight: the judge itself, or each member of a panel."""
    if isinstance(outcome, Unreadable) or not outcome.members:
        return [(who, weight, outcome)]
    return [(one.appointed, weight * one.weight, one.outcome) for one in outcome.members]


def _annotation(who: Appointed, principle: Principle | None, weight: float, verdict: Verdict) -> Annotation:
    read = verdict.samples or ((verdict.orders,) if verdict.orders else ())
    places = ((0, 1), (1, 0))
    worded = (principle.fingerprint,) if principle else ()
    return Annotation(
        annotator=who.annotator,
        principle=principle.id if principle else "",
        protocol=PROTOCOLS[len(verdict.orders)],
        probabilities=(verdict.p_first, 1 - verdict.p_first),
        orders=tuple((p_first, 1 - p_first) for orders in read for p_first in orders),
        shown=tuple(places[at] for orders in read for at in range(len(orders))),
        agree=verdict.agree,
        scores=verdict.scores,
        weight=weight,
        note=verdict.note,
        wording=digest(identity(who.judge), *worded),
        model=verdict.model,
        weights=verdict.weights,
    )


def _words(*parts: str) -> str:
    return "; ".join(filter(None, parts))


def _under(principle: Principle | None) -> str:
    return f"principle '{principle.id}'" if principle else ""
