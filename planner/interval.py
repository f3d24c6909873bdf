"""The range in which we expect the true value: factors around an estimate, taken from the residuals of the corpus.

The factors are data (catalog/intervals.jsonl, written by `python -m benchmarks.published --write`); docs/adr says how
they are fitted. They are whole thousandths, so that bytes stay exact integers of any size, one or an array of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final

from planner.hardware.profile import DeviceProfile

SCALE: Final = 1000
FITTED: Final = "residuals"
UNCALIBRATED: Final = "uncalibrated"
STEP_TIME: Final = "step_time"
REQUIRED: Final = "required"


@dataclass(frozen=True, slots=True)
class Factors:
    """Thousandths of an estimate between which nine of ten measured values lie, and what that rests on."""

    low: int
    high: int
    basis: str
    rows: int

    def around(self, quantity: Any) -> tuple[Any, Any]:
        """The interval around whole bytes, an int or an int64 array.

        Thousands and rest apart, so that only the result has to fit into 64 bits, not the product before division.
        """
        whole, rest = quantity // SCALE, quantity % SCALE
        return whole * self.low + rest * self.low // SCALE, whole * self.high + rest * self.high // SCALE


def device_class(device: DeviceProfile) -> str:
    """Devices that residuals are pooled over: GPUs by vendor, anything else by kind."""
    return f"{device.vendor} gpu" if device.kind == "gpu" else device.kind


def memory_factors(device: DeviceProfile) -> Factors:
    """Factors of the bytes that a run requires on this device."""
    return factors_of(REQUIRED, device_class(device))


def time_factors(device: DeviceProfile) -> Factors:
    """Factors of the seconds of a step on this device."""
    return factors_of(STEP_TIME, device_class(device))


@cache
def factors_of(quantity: str, group: str) -> Factors:
    """The factors of a quantity on a class of devices; the widest of all groups where this one has too few rows."""
    groups = _groups(quantity)
    known = groups.get(group)
    if known is not None and known.basis == FITTED:
        return known
    return Factors(
        low=min(factors.low for factors in groups.values()),
        high=max(factors.high for factors in groups.values()),
        basis=UNCALIBRATED,
        rows=0 if known is None else known.rows,
    )


@cache
def _groups(quantity: str) -> Mapping[str, Factors]:
    text = files("planner.catalog").joinpath("intervals.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    return {
        row["device_class"]: Factors(row["low"], row["high"], row["basis"], row["rows"])
        for row in rows
        if row["quantity"] == quantity
    }


def forget() -> None:
    """Read the factors anew: for the command that has just written them."""
    factors_of.cache_clear()
    _groups.cache_clear()
