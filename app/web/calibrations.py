"""The pages of the calibrations: which there are, and the curves of one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from app.api.calibrations import book_of, known
from app.web.pages import site_page
from planner.hardware.calibration import Calibration, Curve

router = APIRouter(include_in_schema=False)

WIDTH, HEIGHT = 640.0, 120.0
OPERATIONS = {
    "matmul": "Matrix products",
    "narrow_matmul": "Narrow products, as of adapters",
    "attention": "Attention",
    "elementwise": "Elementwise operations",
    "activation": "Activation functions",
    "loss": "Loss",
    "optimizer": "Optimizer step",
}
FORMS = {
    "forward": "forward",
    "backward": "backward",
    "input_gradient": "gradient of the input",
    "weight_gradient": "gradient of the weight",
}


@dataclass(frozen=True, slots=True)
class Line:
    """A curve in the chart's own units, and its ends in words."""

    curve: Curve
    points: str
    key: str
    label: str


@dataclass(frozen=True, slots=True)
class Panel:
    """The curves of one class of operations over one pair of logarithmic axes."""

    title: str
    lines: Sequence[Line]
    unit: str
    lowest: float
    highest: float
    smallest: float
    largest: float


@router.get("/calibrations")
def calibrations_page(request: Request) -> HTMLResponse:
    """Every device that was calibrated."""
    return site_page(request, "calibrations.html", here="/calibrations", calibrations=book_of(request).newest())


@router.get("/calibrations/{calibration_id}")
def calibration_page(request: Request, calibration_id: str) -> HTMLResponse:
    """The curves of one calibration."""
    found = known(request, calibration_id)
    return site_page(
        request,
        "calibration.html",
        here="/calibrations",
        calibration=found,
        panels=panels_of(found),
        amount=amount,
    )


def panels_of(calibration: Calibration) -> list[Panel]:
    """One panel for each class of operations, in the order of OPERATIONS."""
    return [
        _panel(title, curves)
        for operation, title in OPERATIONS.items()
        if (curves := [curve for curve in calibration.curves if curve.operation == operation])
    ]


def _panel(title: str, curves: Sequence[Curve]) -> Panel:
    rates = [rate for curve in curves for rate in curve.rates]
    sizes = [size for curve in curves for size in curve.sizes]
    lowest, highest, smallest, largest = min(rates), max(rates), min(sizes), max(sizes)

    def place(size: float, rate: float) -> str:
        x, y = _share(size, smallest, largest), _share(rate, lowest, highest)
        return f"{WIDTH * x:.1f},{HEIGHT * (1 - y):.1f}"

    lines = [
        Line(
            curve,
            " ".join(place(size, rate) for size, rate in zip(curve.sizes, curve.rates, strict=True)),
            f"c-{number % 6}",
            f"{curve.dtype}, {FORMS[curve.form]}",
        )
        for number, curve in enumerate(curves)
    ]
    unit = "FLOP" if curves[0].variable == "flops" else "B"
    return Panel(title, lines, unit, lowest, highest, smallest, largest)


def amount(value: float, unit: str) -> str:
    """A size or a rate in three digits, in the largest unit that leaves one before the point."""
    for prefix, factor in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= factor:
            digits = ",.0f" if value >= 999.5 * factor else ".3g"
            return f"{value / factor:{digits}} {prefix}{unit}"
    return f"{value:.3g} {unit}"


def _share(value: float, low: float, high: float) -> float:
    """Where a value lies between two others, by its logarithm."""
    return math.log(value / low) / math.log(high / low) if high > low else 0.5
