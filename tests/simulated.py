"""Judges and models whose truth is known, as the rows that evals write; bench/intervals.py has them too."""

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from cai.evals import VerdictRow


@dataclass(frozen=True, kw_only=True)
class World:
    """A judge's log-odds of the first of two answers: `slope` times how much better it truly is, times
    `confidence`; plus `position` for the one shown first, half of `length` for the longer, and noise.

    A prompt's pairs are alike hard, by exp(N(0, `alike`)); a share `ties` of pairs has no better answer.
    """

    pairs: int = 1
    slope: float = 1.2
    confidence: float = 1.5
    position: float = 0.3
    length: float = 0.5
    alike: float = 0.7
    ties: float = 0.2

    def rows(self, prompts: int, seed: int) -> list[VerdictRow]:
        """Rows of the `judge` eval."""
        random = np.random.default_rng(seed)
        count = prompts * self.pairs
        quality = np.where(random.random(count) < self.ties, 0.0, random.normal(0, 1, count))
        hardness = np.repeat(np.exp(random.normal(0, self.alike, prompts)), self.pairs)
        lengths = random.integers(50, 400, (count, 2))
        longer = np.sign(lengths[:, 0] - lengths[:, 1])
        base = self.slope * quality * hardness + self.length * longer / 2 + random.normal(0, 0.8, count)
        ahead = sigmoid(self.confidence * (base + self.position))
        behind = sigmoid(self.confidence * (base - self.position))
        return [
            {
                "prompt": str(at // self.pairs),
                "principle": "p",
                "better": "tie" if quality[at] == 0 else "one" if quality[at] > 0 else "other",
                "p_one": float(ahead[at] + behind[at]) / 2,
                "p_one_first": float(ahead[at]),
                "p_one_second": float(behind[at]),
                "length_one": int(lengths[at, 0]),
                "length_other": int(lengths[at, 1]),
            }
            for at in range(count)
        ]


@dataclass(frozen=True, kw_only=True)
class League:
    """Models with Bradley-Terry strengths, and log-odds of `length` for the longer of two answers."""

    strengths: tuple[float, ...] = (0.0, 0.4, 1.0, -0.8)
    length: float = 0.0

    def chance(self, one: int, other: int) -> float:
        """P(one beats other) at equal length."""
        return float(sigmoid(self.strengths[one] - self.strengths[other]))

    def rows(self, prompts: int, seed: int) -> list[VerdictRow]:
        """Rows of the `winrate` eval: every two models meet once a prompt."""
        random = np.random.default_rng(seed)
        found: list[VerdictRow] = []
        for prompt in range(prompts):
            lengths = random.integers(50, 400, len(self.strengths))
            for one, other in combinations(range(len(self.strengths)), 2):
                longer = float(np.sign(lengths[one] - lengths[other]))
                odds = self.strengths[one] - self.strengths[other] + self.length * longer
                sides = {"one": one, "other": other}
                found.append(
                    {
                        "prompt": str(prompt),
                        "judge": "judge",
                        "outcome": "judged",
                        "won": float(random.random() < sigmoid(odds)),
                        **{side: f"m{model}" for side, model in sides.items()},
                        **{f"weights_{side}": "" for side in sides},
                        **{f"length_{side}": int(lengths[model]) for side, model in sides.items()},
                    }
                )
        return found


def sigmoid(odds: Any) -> Any:
    return 1 / (1 + np.exp(-odds))
