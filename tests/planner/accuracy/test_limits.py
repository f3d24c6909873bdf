"""The interval's method: split conformal prediction on a symmetric score."""

from __future__ import annotations

import random
import statistics
from types import SimpleNamespace
from typing import Any, cast

import pytest

from planner.accuracy.residuals import Residual, limits


def _residuals(ratios: list[float]) -> list[Residual]:
    return [Residual(cast(Any, SimpleNamespace()), "reserved", ratio) for ratio in ratios]


def test_the_factor_is_the_score_of_rank_nine_tenths_of_one_more_than_there_are() -> None:
    ratios = [1 + number / 100 for number in range(1, 21)]  # 20 scores: the rank is 19 of 20
    assert limits(_residuals(ratios)) == (840, 1190)


def test_an_error_counts_alike_on_either_side() -> None:
    above = limits(_residuals([1.25] * 30))
    below = limits(_residuals([0.80] * 30))
    assert above == below == (800, 1250)


def test_few_rows_take_the_widest_score() -> None:
    assert limits(_residuals([1.0, 2.0, 1.1])) == (500, 2000)


@pytest.mark.parametrize("count", [20, 33, 93])
def test_unseen_rows_of_the_same_kind_are_inside_nine_times_of_ten(count: int) -> None:
    """Vovk: of exchangeable rows at least 0.9, and at most 1 / (n + 1) more."""
    chance = random.Random(count)
    inside: list[float] = []
    for _ in range(300):
        low, high = limits(_residuals([chance.lognormvariate(0.05, 0.2) for _ in range(count)]))
        inside += [low <= 1000 * chance.lognormvariate(0.05, 0.2) <= high for _ in range(20)]
    assert 0.88 <= statistics.fmean(inside) <= 0.92 + 1 / (count + 1)
