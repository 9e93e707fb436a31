"""The verdict straight after the question, as the normalised probabilities of the two options.

Bai et al. 2022 (arXiv 2212.08073), section 4.1, with both orders averaged as in Lee et al. 2023 (arXiv
2309.00267).
"""

from dataclasses import dataclass

from cai.constitution import Principle
from cai.judges import Unreadable, Verdict
from cai.judges._options import OptionJudge
from cai.records import Messages
from cai.stages import Asking


@dataclass(frozen=True, kw_only=True)
class Logprob(OptionJudge):
    """One request in each order; nothing is sampled."""

    def judge(
        self, prompt: Messages, first: str, second: str, principle: Principle, seed: int
    ) -> Asking[Verdict | Unreadable]:
        replies = yield [
            self.options(self.messages(prompt, a, b, principle, reasoned=False), self.frames.verdict)
            for a, b in self.shown(first, second)
        ]
        return self.verdict([[self.read(reply)] for reply in replies])
