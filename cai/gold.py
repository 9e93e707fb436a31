"""Where the truth about a comparison comes from: what a judge is measured against and calibrated on.

gold = "meta:better"          # a key of the prompt's line: the position of the best candidate, or "tie"
gold = "annotator:human:ann"  # an annotation in the comparison itself; "annotator:human" is any "human:..."
gold = "mine.py:truth"        # truth(comparison, principle) -> how good each candidate is, or None
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cai.errors import CaiError, RowError
from cai.plugins import function
from cai.records import Annotation, Comparison

TIE = "tie"
_FORMS = "write meta:KEY, annotator:NAME or file.py:function"

Utilities = Sequence[float] | None
Oracle = Callable[[Comparison, str], Utilities]


@dataclass(frozen=True, kw_only=True)
class Gold:
    """How good each candidate truly is, from the source that `source` names.

    `digest` is that of the file of a function, so that a changed one is another source.
    """

    source: str
    digest: str = ""

    @classmethod
    def from_toml(cls, value: Any, where: str) -> "Gold":
        if not isinstance(value, str):
            raise CaiError(f"this is {value!r}", where=where, next=_FORMS)
        kind, colon, name = value.partition(":")
        if not colon or not name:
            raise CaiError(f"'{value}' names no source of truth", where=where, next=_FORMS)
        if kind in ("meta", "annotator"):
            return cls(source=value)
        _, digest = function(value, where)
        return cls(source=value, digest=digest)

    def utilities(self, comparison: Comparison, principle: str) -> Utilities:
        """One number a candidate, more for the better; None where the truth is not known.

        `principle` is the id of the one that the candidates are compared under. Raises `RowError` for a label
        that is no position, and for a function that gives another number of numbers.
        """
        kind, _, name = self.source.partition(":")
        if kind == "meta":
            return _labelled(comparison, name)
        if kind == "annotator":
            return next((one.probabilities for one in comparison.annotations if self.is_by(one)), None)
        oracle: Oracle = function(self.source)[0]
        found = oracle(comparison, principle)
        if found is not None and len(found) != len(comparison.candidates):
            counts = f"{len(found)} numbers for {len(comparison.candidates)} candidates"
            raise RowError(f"'{self.source}' gave {counts}", next="return one number a candidate, or None")
        return found

    def is_by(self, annotation: Annotation) -> bool:
        """Whether an annotation is the truth itself."""
        kind, _, name = self.source.partition(":")
        by = annotation.annotator
        return kind == "annotator" and (by == name or by.startswith(f"{name}:"))


def _labelled(comparison: Comparison, key: str) -> Utilities:
    label = comparison.meta.get(key)
    if label is None:
        return None
    count = len(comparison.candidates)
    if label == TIE:
        return [0.0] * count
    if type(label) is not int or not 0 <= label < count:
        raise RowError(
            f"'{key}' is {label!r}",
            next=f'write the position of the best candidate, 0 to {count - 1}, or "{TIE}"',
        )
    return [float(at == label) for at in range(count)]
