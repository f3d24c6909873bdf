"""From measured points and real steps to a calibration's curves, factors and interval."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from math import exp, log
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from planner.calibration.micro import Point
from planner.hardware.calibration import Curve, Phase
from planner.throughput.calibrated import PARTS, PhaseParts

Floats = NDArray[np.float64]
BINS_A_DECADE: Final = 3
PRIOR_FACTOR: Final = 1.0
PRIOR_OPERATION_SECONDS: Final = 5e-6
"""What torch takes to dispatch one operation from Python."""
PRIOR_GROUP_PRODUCT_SECONDS: Final = 20e-6
"""Several operations, since a group is a loop where no grouped kernel exists."""
NOISE: Final = 0.04
"""How well a measured phase is believed, relative; priors hold where the steps say little."""
FACTOR_WIDTH: Final = 0.3
OPERATION_WIDTH: Final = 10e-6
TENSOR_WIDTH: Final = 50e-6
OPTIMIZER_NOISE: Final = 0.1
GROUP_PRODUCT_WIDTH: Final = 60e-6
HEAP_WIDTH: Final = 1e-10
LEAST_FACTOR: Final = 0.2
SWEEPS: Final = 3000
INTERVAL_SHARE: Final = 0.8
LEAST_SPREAD: Final = 0.05


def curves(points: Sequence[Point]) -> list[Curve]:
    """One curve for each class, dtype and form: the median rate in bins of equal width in the size's logarithm.

    A bin that took longer than a larger one was disturbed, since other work only adds time: it gets the larger one's.
    """

    def key(point: Point) -> tuple[str, str, str]:
        return (point.operation, point.dtype, point.form)

    return [_curve(list(group)) for _, group in groupby(sorted(points, key=key), key=key)]


def _curve(points: list[Point]) -> Curve:
    bins: dict[int, list[Point]] = {}
    for point in points:
        bins.setdefault(round(BINS_A_DECADE * log(point.size, 10)), []).append(point)
    parts = [bins[number] for number in sorted(bins)]
    rates = [[point.rate for point in part] for part in parts]
    sizes = [exp(statistics.fmean(log(point.size) for point in part)) for part in parts]
    seconds = [size / statistics.median(part) for size, part in zip(sizes, rates, strict=True)]
    undisturbed = np.minimum.accumulate(seconds[::-1])[::-1]
    first = points[0]
    return Curve(
        operation=first.operation,
        dtype=first.dtype,
        form=first.form,
        variable=first.variable,
        sizes=sizes,
        rates=[size / float(least) for size, least in zip(sizes, undisturbed, strict=True)],
        low=[float(np.quantile(part, 0.1)) for part in rates],
        high=[float(np.quantile(part, 0.9)) for part in rates],
    )


@dataclass(frozen=True, slots=True)
class Sample:
    """One phase of one real run: what it is made of by the curves, and the seconds that it took."""

    parts: PhaseParts
    seconds: float

    @property
    def row(self) -> Floats:
        """Its parts in the order of the parameters."""
        shares = [float(self.parts.seconds[part][0]) for part in PARTS]
        counts = [self.parts.operations, self.parts.group_products]
        besides = [*counts, float(self.parts.mapped_bytes[0]), float(self.parts.heap_bytes[0])]
        return np.array([*shares, *besides])


def phase(samples: Sequence[Sample], mapping_seconds_per_byte: float) -> Phase:
    """The factors that explain the measured phases best, none far from its prior without need.

    Least squares of relative errors with Gaussian priors: every factor 1, an operation 5 us, a mapped byte what it
    took by itself, a byte of the heap nothing. Nothing may become negative.
    """
    prior = np.array(
        [
            *[PRIOR_FACTOR] * len(PARTS),
            PRIOR_OPERATION_SECONDS,
            PRIOR_GROUP_PRODUCT_SECONDS,
            mapping_seconds_per_byte,
            0.0,
        ]
    )
    mapped_width = max(FACTOR_WIDTH * mapping_seconds_per_byte, 1e-15)
    width = np.array([*[FACTOR_WIDTH] * len(PARTS), OPERATION_WIDTH, GROUP_PRODUCT_WIDTH, mapped_width, HEAP_WIDTH])
    least = np.array([*[LEAST_FACTOR] * len(PARTS), 0.0, 0.0, 0.0, 0.0])
    rows = np.array([sample.row / sample.seconds for sample in samples]).reshape(len(samples), len(prior)) * width
    target = np.ones(len(samples)) / NOISE
    solution = width * bounded_least_squares(rows / NOISE, target, prior / width, least / width)
    return Phase(
        factors=dict(zip(PARTS, solution[: len(PARTS)].tolist(), strict=True)),
        operation_seconds=float(solution[-4]),
        group_product_seconds=float(solution[-3]),
        mapped_seconds_per_byte=float(solution[-2]),
        heap_seconds_per_byte=float(solution[-1]),
    )


def optimizer(samples: Sequence[tuple[float, float, float]]) -> tuple[float, float]:
    """(factor, seconds a tensor) that explain (seconds by the curve, tensors, measured seconds) best."""
    rows = np.array([(curve / seconds, count * TENSOR_WIDTH / seconds) for curve, count, seconds in samples])
    rows = rows.reshape(len(samples), 2) * np.array([FACTOR_WIDTH, 1.0]) / OPTIMIZER_NOISE
    target = np.ones(len(samples)) / OPTIMIZER_NOISE
    prior, least = np.array([PRIOR_FACTOR / FACTOR_WIDTH, 0.0]), np.array([LEAST_FACTOR, 0.0])
    factor, tensor = bounded_least_squares(rows, target, prior, least)
    return float(factor) * FACTOR_WIDTH, float(tensor) * TENSOR_WIDTH


def bounded_least_squares(rows: Floats, target: Floats, prior: Floats, least: Floats) -> Floats:
    """The x >= least with the smallest |rows x - target|^2 + |x - prior|^2, by coordinate descent."""
    matrix = rows.T @ rows + np.eye(len(prior))
    right = rows.T @ target + prior
    found = np.maximum(prior, least)
    for _ in range(SWEEPS):
        for index in range(len(found)):
            rest = right[index] - matrix[index] @ found + matrix[index, index] * found[index]
            found[index] = max(least[index], rest / matrix[index, index])
    return found


def interval_of(ratios: Sequence[float]) -> tuple[float, float]:
    """The ends that hold four in five of the measured over predicted times, at least 5 % to each side."""
    tail = (1 - INTERVAL_SHARE) / 2
    low, high = (float(value) for value in np.quantile(np.array(ratios), [tail, 1 - tail]))
    return min(low, 1 - LEAST_SPREAD), max(high, 1 + LEAST_SPREAD)


def without(samples: Sequence[Any], index: int) -> list[Any]:
    """All but one."""
    return [sample for number, sample in enumerate(samples) if number != index]
