"""What the evals of refusals share: what kind of request it is, what each detector says of an answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import nan
from typing import TYPE_CHECKING, Any

from cai.config import key
from cai.detectors import LABELS, Appointed, Detection
from cai.errors import RowError
from cai.evals import Number, VerdictRow
from cai.evals._bootstrap import bootstrap
from cai.evals._intervals import totals
from cai.evals._shares import by, prompts_of, share
from cai.judges import Unreadable
from cai.records import Messages, Record, Scalar, Turn
from cai.stages import Asking, together

if TYPE_CHECKING:
    from cai.evals._bootstrap import Floats

UNREADABLE = "unreadable"
KINDS = ("harmful", "benign", "borderline")

# name, the kind of request it is about, the labels that count
Measure = tuple[str, str, tuple[str, ...]]


def _default_detectors() -> tuple[Appointed, ...]:
    return (Appointed.from_toml("options", "detectors"),)


@dataclass(frozen=True, kw_only=True)
class Detecting:
    """The keys of an eval that looks at what answers do with requests of three kinds."""

    detectors: tuple[Appointed, ...] = key(
        factory=_default_detectors, help="Who reads the answers; the first one's word is the headline."
    )
    kind: str = key("kind", "The meta key that says what kind of request it is.")
    harmful: tuple[str, ...] = key(("harmful",), "The kinds that should be refused.")
    benign: tuple[str, ...] = key(("benign",), "The kinds that should be answered.")
    borderline: tuple[str, ...] = key(
        ("borderline",), "The kinds that look harmful and should be answered all the same."
    )
    category: str = key("category", "The meta key of the request's category; empty: none.")

    def __post_init__(self) -> None:
        names = [one.name for one in self.detectors]
        if not names:
            raise ValueError("'detectors' is empty; name one, such as \"options\"")
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"'detectors' has '{name}' twice; take one out")
        listed = [one for kind in KINDS for one in getattr(self, kind)]
        for one in listed:
            if listed.count(one) > 1:
                raise ValueError(f"'{one}' is of two kinds; leave it in one of {', '.join(KINDS)}")

    @property
    def asks(self) -> bool:
        """Whether a detector asks a model."""
        return any(one.detector.asks for one in self.detectors)

    def about(self, record: Record) -> dict[str, Scalar]:
        """Kind and category of a request. `RowError` when its row does not say them, or says another kind."""
        said = str(_meta(record, self.kind, "kind"))
        kind = next((kind for kind in KINDS if said in getattr(self, kind)), None)
        if kind is None:
            raise RowError(
                f"'{self.kind}' is '{said}', which is none of {', '.join(KINDS)}",
                next=f'add it to one of the three, as borderline = ["borderline", "{said}"]',
            )
        category = str(_meta(record, self.category, "category")) if self.category else ""
        return {"kind": kind, "category": category}

    def detections(self, prompt: Messages, answer: str) -> Asking[list[VerdictRow]]:
        """A row of each detector, in their order: its word for `answer` and the probability of each label."""
        found = yield from together([_detect(one, prompt, answer) for one in self.detectors])
        return [_row(one.name, read) for one, read in zip(self.detectors, found, strict=True)]


def answer_of(record: Record) -> Turn:
    """The newest answer. `RowError` when there is none."""
    if record.answer is None:
        raise RowError("there is no answer", next="give what generate wrote")
    return record.answer


def readable(rows: Sequence[VerdictRow]) -> list[VerdictRow]:
    return [row for row in rows if row["says"] != UNREADABLE]


def counted(
    measure: Measure, of: str, rows: Sequence[VerdictRow], suffix: str = "", group: str = ""
) -> Number:
    """How many of the readable rows about a kind of request have one of the measure's labels."""
    name, kind, labels = measure
    some = [row for row in readable(rows) if row["kind"] == kind]
    hits = [row["says"] in labels for row in some]
    return share(name + suffix, of, hits, group, prompts_of(some))


def unreadable(of: str, rows: Sequence[VerdictRow], suffix: str = "") -> Number:
    """How many answers the detector could not read."""
    unread = [row["says"] == UNREADABLE for row in rows]
    return share(f"unreadable answers{suffix}", of, unread, prompts=prompts_of(rows))


def by_name(detectors: Sequence[Appointed], rows: Sequence[VerdictRow]) -> Mapping[str, list[VerdictRow]]:
    """The rows of each detector."""
    found = by("detector", rows)
    return {one.name: found.get(one.name, []) for one in detectors}


def agreement(of: str, found: Mapping[str, list[VerdictRow]]) -> list[Number]:
    """How often each two detectors say the same: the same label, and, of refusal or not, also beyond chance.

    Beyond chance: Cohen's kappa (1960), with a bootstrap over prompts. Answers that one of them cannot read
    are left out.
    """
    numbers = []
    for (one, mine), (other, theirs) in combinations(found.items(), 2):
        pairs = [
            (a, b) for a, b in zip(mine, theirs, strict=True) if UNREADABLE not in (a["says"], b["says"])
        ]
        prompts = [str(a["prompt"]) for a, _ in pairs]
        refused = [(a["says"] == "refused", b["says"] == "refused") for a, b in pairs]
        both = f"{one} and {other} agree"
        same = [a["says"] == b["says"] for a, b in pairs]
        numbers.append(share(f"{both} on the label", of, same, prompts=prompts))
        alike = [a == b for a, b in refused]
        numbers.append(share(f"{both} on refusal", of, alike, prompts=prompts))
        if pairs:
            numbers.append(_kappa(f"{both} on refusal (kappa)", of, refused, prompts))
    return numbers


def _kappa(name: str, of: str, refused: Sequence[tuple[bool, bool]], prompts: Sequence[str]) -> Number:
    """(agreement - agreement by chance) / (1 - agreement by chance)."""
    sums = totals(
        (prompt, (1.0, float(a), float(b), float(a == b)))
        for prompt, (a, b) in zip(prompts, refused, strict=True)
    )

    def kappa(sums: "Floats") -> Any:
        import numpy as np

        count, mine, theirs, same = np.moveaxis(sums, -1, 0)
        chance = (mine * theirs + (count - mine) * (count - theirs)) / count**2
        with np.errstate(invalid="ignore", divide="ignore"):
            return (same / count - chance) / (1 - chance)

    # Where both say one word throughout, chance explains all there is.
    told = len({word for pair in refused for word in pair}) > 1
    value, (low, high) = bootstrap(sums, kappa) if told else (nan, (-1.0, 1.0))
    return Number(name=name, of=of, value=value, low=low, high=high, n=len(refused), unit="plain")


def _meta(record: Record, name: str, what: str) -> Scalar:
    if name in record.meta:
        return record.meta[name]
    way = f'add "{name}" to each line of the requests'
    other = f"or set {what} to the key that has it"
    none = ' (category = "": no categories)' if what == "category" else ""
    raise RowError(f"'{name}' is missing", next=f"{way}, {other}{none}")


def _detect(one: Appointed, prompt: Messages, answer: str) -> Asking[Detection | Unreadable]:
    found = one.detector.detect(prompt, answer)
    if isinstance(found, Detection | Unreadable):
        return found
    return (yield from found)


def _row(detector: str, read: Detection | Unreadable) -> VerdictRow:
    if isinstance(read, Unreadable):
        return {"detector": detector, "says": UNREADABLE, "why": read.reason, "note": read.raw}
    shares = {f"p_{label}": getattr(read, label) for label in LABELS}
    return {"detector": detector, "says": read.says, "note": read.note, **shares}
