"""How far verdicts in bins are from being as right as they are sure, and how far luck takes them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from cai.evals._bootstrap import TIMES
from cai.evals._intervals import Z95, student

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Luck:
    """Draws of what could have been otherwise, (times, bins) each.

    `words`: how many are right, in standard deviations. `turnout`: by what share more or fewer verdicts are
    as sure as those of a bin.
    """

    words: "Floats"
    turnout: "Floats"


@dataclass(frozen=True, kw_only=True)
class Gaps:
    """Verdicts, each with its bin: how sure it is, and whether it is right (0, 1, or 0.5: it names nobody).

    No bin is empty. A hypothesis is what the `sums` would be without luck, (bins,): zeros are a judge that is
    right as often as it says.
    """

    bins: "NDArray[np.int64]"
    sure: "Floats"
    right: "Floats"
    prompts: Sequence[str]

    @cached_property
    def counts(self) -> "Floats":
        """(bins,) how many verdicts there are."""
        import numpy as np

        return np.bincount(self.bins).astype(np.float64)

    @cached_property
    def sums(self) -> "Floats":
        """(bins,) right - sure, summed over each bin."""
        import numpy as np

        return np.bincount(self.bins, self.right - self.sure).astype(np.float64)

    def drawn(self, truth: "Floats", luck: "Luck") -> "Floats":
        """(times, bins) the sums that a hypothesis and luck make."""
        return truth * (1 + luck.turnout) + luck.words * self.spread(truth)

    def spread(self, truth: "Floats") -> "Floats":
        """(bins,) the standard deviations of the sums under a hypothesis, if verdicts were independent.

        They are those of the chances that it implies, as in Wilson's interval: a bin without one mistake is
        not taken for one that cannot make any. n / (n - 1), for the chances were fitted to the bin.
        """
        import numpy as np

        chances = self._chances(truth)
        variances = np.bincount(self.bins, chances * (1 - chances) * self._lucky)
        return np.sqrt(variances * self.counts / np.maximum(self.counts - 1, 1))

    def luck(self, times: int = TIMES, seed: int = 0) -> "Luck":
        """Draws in which bins vary together as over the prompts that were seen."""
        import numpy as np

        random = np.random.Generator(np.random.PCG64(seed))
        names, prompts = np.unique(np.asarray(self.prompts), return_inverse=True)
        count, most = len(self.sums), len(names)

        def draws(values: "Floats", deviations: "Floats") -> "Floats":
            """Of the sums by bin of what verdicts have; in units of the deviations, those of 0 being 1."""
            sums = np.bincount(prompts * count + self.bins, values, most * count).reshape(most, count)
            scaled = (sums - sums.mean(0)) / np.where(deviations > 0, deviations, 1.0)
            # Student's t for few prompts, as in `share_interval`.
            few = most / (most - 1) * (student(most - 1) / Z95) ** 2 if most < len(prompts) else 1.0
            together = few * scaled.T @ scaled + np.diag(np.where(deviations > 0, 0.0, 1.0))
            # Not checked, for a sum of squares is negative by rounding at most.
            middle = np.zeros(count)
            return random.multivariate_normal(middle, together, times, check_valid="ignore", method="eigh")

        off = (self.right - self._chances(self.sums)) * self._lucky
        alone = np.sqrt(np.bincount(self.bins, off**2))
        return Luck(words=draws(off, alone), turnout=draws(np.ones(len(prompts)), self.counts))

    def _chances(self, truth: "Floats") -> "Floats":
        """(verdicts,) the probability of being right under a hypothesis."""
        import numpy as np

        return np.clip(self.sure + (truth / self.counts)[self.bins], 0, 1)

    @cached_property
    def _lucky(self) -> "NDArray[np.bool_]":
        """Which verdicts could have come out otherwise: an exact half names nobody, whatever is true."""
        import numpy as np

        return np.asarray(self.right != 0.5)
