"""Seconds of short pieces of work, repeated until their median is known."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any, Final

from planner.calibration.device import Device

FEWEST: Final = 5
MOST: Final = 200
LEAST_SECONDS: Final = 0.012


def median_seconds(device: Device, work: Callable[[], Any]) -> float:
    """The median seconds of one run by the device's clock, all of its work done."""
    work()
    device.wait()
    samples: list[float] = []
    spent = 0.0
    while len(samples) < FEWEST or (spent < LEAST_SECONDS and len(samples) < MOST):
        began = device.now()
        work()
        device.wait()
        samples.append(device.now() - began)
        spent += samples[-1]
    return statistics.median(samples)
