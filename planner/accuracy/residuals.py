"""Residuals, measured over predicted, by group, and the intervals that are taken from them.

The method (docs/adr, intervals): a group is a kind of quantity on a class of devices. Its interval is the shortest that
holds nine tenths of its residuals, the wider end of two weightings each: all rows alike, and every publisher alike, so
that neither one long table nor one odd page decides. A group with fewer than 20 rows, or whose rows are all of one
device and concern time, is not fitted: it takes the widest of the fitted ones. How well that holds is tested on what
was left out: each publisher's rows against the interval of the others' (see `held_out`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from planner.accuracy.prediction import Prediction
from planner.interval import FITTED, REQUIRED, SCALE, STEP_TIME, UNCALIBRATED

SHARE: Final = 0.90
FEWEST_ROWS: Final = 20
DEVICE_BYTES: Final[dict[str, str]] = {
    "reserved": REQUIRED, "process": REQUIRED, "resident": REQUIRED, "unknown": REQUIRED,
}  # fmt: skip
"""Peaks that say what a device must give: they are pooled for the interval of what a run requires. What people print
without naming its kind is one of them."""
Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class Residual:
    """One measured quantity over its prediction: bytes over bytes, or seconds over seconds."""

    prediction: Prediction
    quantity: str
    ratio: float

    @property
    def group(self) -> tuple[str, str]:
        """The quantity that an interval is fitted for, and the class of devices."""
        return DEVICE_BYTES.get(self.quantity, self.quantity), self.prediction.device_class

    @property
    def error(self) -> float:
        """Predicted over measured, less one. Of time: predicted over measured speed."""
        return (self.ratio if self.quantity == STEP_TIME else 1 / self.ratio) - 1


def residuals_of(predictions: Iterable[Prediction]) -> list[Residual]:
    """Every figure that was measured and predicted."""
    found: list[Residual] = []
    for one in predictions:
        for peak in one.run.peaks:
            predicted = one.bytes_of(peak.kind)
            if predicted:
                found.append(Residual(one, peak.kind, peak.bytes / predicted))
        # Bytes barely depend on the device that stands in for another; speed does.
        of_this_device = "machine.device" not in one.run.stand_ins
        if one.tokens_per_second and one.run.tokens_per_second and of_this_device:
            found.append(Residual(one, STEP_TIME, one.tokens_per_second / one.run.tokens_per_second))
    return found


def faithful(residuals: Iterable[Residual]) -> list[Residual]:
    """Those of verified, complete runs that the request states without a departure."""
    return [one for one in residuals if one.prediction.run.is_faithful]


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all values do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values) - 1e-9) - 1)]


def limits(residuals: Sequence[Residual]) -> tuple[float, float]:
    """The shortest interval with nine tenths of the residuals, the wider end of both weightings each."""
    ratios = [one.ratio for one in residuals]
    counts: dict[str, int] = defaultdict(int)
    for one in residuals:
        counts[one.prediction.run.publisher] += 1
    weights = [1 / counts[one.prediction.run.publisher] for one in residuals]
    lows, highs = zip(*(shortest(ratios, each, SHARE) for each in ([1.0] * len(ratios), weights)), strict=True)
    return min(lows), max(highs)


def shortest(ratios: Sequence[float], weights: Sequence[float], share: float) -> tuple[float, float]:
    """The shortest interval that holds this share of the weight, measured as a factor from end to end.

    Residuals have one long tail. Equal tails would put one end beyond the tail's few rows and waste the other.
    """
    order = sorted(range(len(ratios)), key=ratios.__getitem__)
    needed, best = share * math.fsum(weights) - 1e-9, (ratios[order[0]], ratios[order[-1]])
    held, first = 0.0, 0
    for last in order:
        held += weights[last]
        while held - weights[order[first]] >= needed:
            held -= weights[order[first]]
            first += 1
        low, high = ratios[order[first]], ratios[last]
        if held >= needed and high / low < best[1] / best[0]:
            best = (low, high)
    return best


def is_fitted(residuals: Sequence[Residual]) -> bool:
    """Whether a group may stand on its own residuals."""
    if len(residuals) < FEWEST_ROWS:
        return False
    devices = {one.prediction.device_id for one in residuals}
    return residuals[0].quantity != STEP_TIME or len(devices) > 1


def grouped(residuals: Iterable[Residual], key: Callable[[Residual], Key]) -> dict[Key, list[Residual]]:
    """Residuals by a key, in the order of their first rows."""
    groups: dict[Key, list[Residual]] = defaultdict(list)
    for one in residuals:
        groups[key(one)].append(one)
    return groups


def interval_rows(predictions: Iterable[Prediction]) -> list[dict[str, Any]]:
    """The rows of catalog/intervals.jsonl; factors are rounded outwards to thousandths."""
    groups = grouped(faithful(residuals_of(predictions)), lambda one: one.group)
    return [_interval_row(group, groups[group]) for group in sorted(groups)]


def _interval_row(group: tuple[str, str], residuals: list[Residual]) -> dict[str, Any]:
    low, high = limits(residuals)
    return {
        "quantity": group[0],
        "device_class": group[1],
        "basis": FITTED if is_fitted(residuals) else UNCALIBRATED,
        "rows": len(residuals),
        "publishers": len({one.prediction.run.publisher for one in residuals}),
        "low": math.floor(low * SCALE),
        "high": math.ceil(high * SCALE),
    }
