"""Residuals, measured over predicted, by group, and the intervals that are taken from them.

The method is split conformal prediction (docs/adr/0016): a group is a kind of quantity on a class of devices, the score
of a row is measured over predicted or its inverse, whichever is larger, and the interval is the estimate divided and
multiplied by the score of rank ceil(0.9 (n + 1)). A group with fewer than 20 rows, or whose rows are all of one device
and concern time, is not fitted: it takes the widest limits of all groups. Tested by leaving out (`held_out`).
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
    """Every figure that was measured and predicted; what a run held when its memory ran out is not its peak."""
    found: list[Residual] = []
    for one in predictions:
        if one.run.outcome != "completed":
            continue
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


def limits(residuals: Sequence[Residual]) -> tuple[int, int]:
    """Thousandths of a prediction that hold nine tenths of unseen rows: 1 / score and score, rounded outwards.

    The score of a row is max(ratio, 1 / ratio): which side a source errs on says nothing about the next source. The
    rank ceil(0.9 (n + 1)) of n scores holds at least nine tenths of exchangeable rows (Vovk, Gammerman, Shafer:
    Algorithmic Learning in a Random World, 2005, chapter 2); where that is beyond the last, the widest score stands.
    """
    scores = sorted(max(one.ratio, 1 / one.ratio) for one in residuals)
    score = scores[min(math.ceil(SHARE * (len(scores) + 1) - 1e-9), len(scores)) - 1]
    return math.floor(SCALE / score), math.ceil(SCALE * score)


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
        "low": low,
        "high": high,
    }
