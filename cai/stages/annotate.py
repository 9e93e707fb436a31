"""One more judge's word on comparisons that are there: another model's, or under another principle."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from cai.annotations import Humans, combined
from cai.config import key
from cai.records import Comparison, Row
from cai.stages import Asking
from cai.stages._judging import Judging, rejected, unread_members


@dataclass(frozen=True, kw_only=True)
class Annotate(Judging):
    """Each comparison gets the new annotations beside those it has, and the mean of all, by their weights.

    With the seed and the constitution of `compare` a pair is judged under the same principle as there. A
    chain of these, each asking another engine, is a panel of several models.
    """

    weight: float = key(1.0, "How much the new annotations count beside the others.")
    humans: Humans = key("replace", "Where humans annotated: replace (only they count) or weigh (all do).")
    unreadable: Literal["reject", "keep"] = key(
        "reject", "What becomes of a comparison that the judge gives no verdict on."
    )

    takes: ClassVar[type] = Comparison
    makes: ClassVar[type] = Comparison
    groups: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.weight < float("inf"):
            raise ValueError(f"'weight' is {self.weight:g}; write a number above 0")

    def work(self, comparison: Comparison) -> Asking[list[Row]]:
        id, prompt_id = comparison.id, comparison.prompt_id
        if len(comparison.candidates) != 2:
            detail = f"annotate takes two candidates, and there are {len(comparison.candidates)}"
            return [rejected("annotate", id, prompt_id, ("several candidates", detail, ""))]
        first, second = (candidate.text for candidate in comparison.candidates)
        found = yield from self.opinions(comparison.prompt, id, first, second)
        if found.refusal:
            refused = rejected("annotate", id, prompt_id, found.refusal)
            return [refused] if self.unreadable == "reject" else [comparison, refused]
        new = tuple(replace(one, weight=one.weight * self.weight) for one in found.annotations)
        annotations = (*comparison.annotations, *new)
        probabilities = combined(annotations, average=self.average, humans=self.humans)
        if unsettled := self.unsettled(probabilities, new):
            return [rejected("annotate", id, prompt_id, unsettled)]
        whole = replace(comparison, annotations=annotations, probabilities=probabilities)
        return [whole, *unread_members("annotate", id, prompt_id, found)]
