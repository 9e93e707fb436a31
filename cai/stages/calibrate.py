"""A judge's probabilities made as sure as they are right, by a map that was fitted before. Asks no model."""

from dataclasses import dataclass, replace
from typing import ClassVar

from cai.annotations import Average, Humans, combined
from cai.calibration import Calibration
from cai.config import key
from cai.records import Annotation, Comparison, Row, digest
from cai.stages._judging import rejected

PREFIX = "calibrated "


@dataclass(frozen=True, kw_only=True)
class Calibrate:
    """The judge's annotation stays, but without weight; a calibrated one has the weight in its stead."""

    calibration: Calibration = key(help="The map: a file that cai calibration wrote.")
    average: Average = key("probability", "How several annotations are averaged.")
    humans: Humans = key("replace", "Where humans annotated: replace (only they count) or weigh (all do).")

    takes: ClassVar[type] = Comparison
    makes: ClassVar[type] = Comparison
    groups: ClassVar[bool] = False

    def work(self, comparison: Comparison) -> list[Row]:
        ours = [one for one in comparison.annotations if self.calibration.is_of(one)]
        if not ours:
            missing = f"it is of '{self.calibration.annotator}', with the weights it was fitted on"
            return [self._rejected(comparison, "other judge", missing)]
        try:
            made = tuple(self._calibrated(one) for one in ours)
        except ValueError as error:
            return [self._rejected(comparison, "several candidates", str(error))]
        kept = tuple(replace(one, weight=0.0) if one in ours else one for one in comparison.annotations)
        annotations = (*kept, *made)
        probabilities = combined(annotations, average=self.average, humans=self.humans)
        return [replace(comparison, annotations=annotations, probabilities=probabilities)]

    def _calibrated(self, annotation: Annotation) -> Annotation:
        return replace(
            annotation,
            annotator=PREFIX + annotation.annotator,
            protocol=f"{self.calibration.method} on {annotation.protocol}",
            probabilities=self.calibration.apply(annotation.probabilities),
            orders=(),
            shown=(),
            scores=(),
            note="",
            wording=digest(annotation.wording, self.calibration.fingerprint),
        )

    def _rejected(self, comparison: Comparison, reason: str, detail: str) -> Row:
        return rejected("calibrate", comparison.id, comparison.prompt_id, (reason, detail, ""))
