"""Curves and factors from made-up measurements whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from planner.calibration.fit import Sample, bounded_least_squares, curves, interval_of, optimizer, phase
from planner.calibration.micro import Point
from planner.throughput.calibrated import PARTS, PhaseParts

pytestmark = pytest.mark.slow  # the package loads torch


def test_a_curve_has_the_median_rate_of_each_size() -> None:
    points = [Point("matmul", "float32", "forward", "flops", 1e6, 1e6 / rate) for rate in (1e9, 2e9, 9e9)]
    points += [Point("matmul", "float32", "forward", "flops", 1e8, 1e-3)]
    (curve,) = curves(points)
    assert curve.sizes == pytest.approx([1e6, 1e8])
    assert curve.rates == pytest.approx([2e9, 1e11])
    assert curve.low[0] < 2e9 < curve.high[0]


def test_a_size_that_was_disturbed_takes_no_longer_than_a_larger_one() -> None:
    points = [
        Point("optimizer", "bfloat16", "forward", "bytes", size, seconds)
        for size, seconds in ((1e6, 1e-4), (1e7, 5e-2), (1e8, 4e-3), (1e9, 4e-2))
    ]
    (curve,) = curves(points)
    taken = [size / rate for size, rate in zip(curve.sizes, curve.rates, strict=True)]
    assert taken == pytest.approx([1e-4, 4e-3, 4e-3, 4e-2])


def sample(matmul: float, operations: float, seconds: float) -> Sample:
    parts = {part: np.array([matmul if part == "matmul" else 0.0]) for part in PARTS}
    return Sample(PhaseParts(parts, operations, 0.0, np.zeros(1), np.zeros(1), np.zeros(1)), seconds)


def test_factors_and_the_cost_of_an_operation_are_found_again() -> None:
    """Steps take 1.1 times their products and 8 us an operation."""
    truth = [(matmul, count, 1.1 * matmul + 8e-6 * count) for matmul in (0.001, 0.1, 1.0) for count in (100, 3000)]
    found = phase([sample(*row) for row in truth], 0.0)
    assert found.factors["matmul"] == pytest.approx(1.1, rel=0.01)
    assert found.operation_seconds == pytest.approx(8e-6, rel=0.02)
    assert found.factors["attention"] == 1.0  # nothing was said about it


def test_nothing_becomes_negative() -> None:
    found = phase([sample(0.1, 10_000, 0.1) for _ in range(5)], 1e-10)
    assert found.operation_seconds >= 0
    solution = bounded_least_squares(np.array([[1.0]]), np.array([-5.0]), np.zeros(1), np.zeros(1))
    assert solution.tolist() == [0.0]


def test_the_optimizer_has_a_factor_and_a_cost_for_each_tensor() -> None:
    truth = [(curve, count, 1.2 * curve + 40e-6 * count) for curve in (0.001, 0.1) for count in (20.0, 200.0)]
    factor, tensor_seconds = optimizer(truth)
    assert factor == pytest.approx(1.2, rel=0.03)
    assert tensor_seconds == pytest.approx(40e-6, rel=0.05)


def test_the_interval_holds_four_in_five_and_is_never_narrower_than_5_percent() -> None:
    assert interval_of([1.0] * 10) == (0.95, 1.05)
    low, high = interval_of([0.7, *[1.0] * 8, 1.4])
    assert 0.7 < low <= 0.97
    assert 1.03 <= high < 1.4
