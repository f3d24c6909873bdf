"""When enough steps are measured: the median's interval by order statistics, and the rule that ends a measurement."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from typing import Final

CONFIDENCE: Final = 0.95
WIDTH: Final = 0.02
FEWEST_STEPS: Final = 6
"""With fewer, not even the lowest and the highest step hold the median with 95 % confidence."""
RULE: Final = (
    "steps are measured until the 95 % interval of their median (by order statistics) is within 2 % of it, "
    "or until the asked number of steps or the time for measuring is reached"
)


@dataclass(frozen=True, slots=True)
class Median:
    """The median of samples and the interval that holds the true median with 95 % confidence."""

    middle: float
    low: float
    high: float

    @property
    def is_narrow(self) -> bool:
        """Whether the interval is within 2 % of the median."""
        return max(self.high - self.middle, self.middle - self.low) <= WIDTH * self.middle


def median_of(samples: Sequence[float]) -> Median:
    """The median with its distribution-free interval.

    The k-th lowest and k-th highest of n samples hold the median with probability 1 - 2 P(Binomial(n, 1/2) < k)
    (David and Nagaraja, Order Statistics, 3rd edition, section 7.1); k is the largest that keeps 95 %.
    """
    ordered, count = sorted(samples), len(samples)
    outside, rank = 0.0, 0
    for lower in range(count // 2):
        outside += 2 * comb(count, lower) / 2**count
        if outside > 1 - CONFIDENCE:
            break
        rank = lower
    return Median(statistics.median(ordered), ordered[rank], ordered[count - 1 - rank])


def is_steady(samples: Sequence[float]) -> bool:
    """Whether the median of the samples is known well enough."""
    return len(samples) >= FEWEST_STEPS and median_of(samples).is_narrow
