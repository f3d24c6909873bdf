"""What a calibration knows: rates by class of operation and size, measured on one device with one software stack.

The document is what a calibrating job writes, the database keeps and a machine carries. It is read here and fitted in
`planner.calibration`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

Floats = NDArray[np.float64]
Operation = Literal["matmul", "narrow_matmul", "attention", "elementwise", "activation", "loss", "optimizer"]
Form = Literal["forward", "backward", "input_gradient", "weight_gradient"]
Variable = Literal["flops", "bytes"]
PHASES = ("forward", "backward", "optimizer_step")
NARROW = 64
"""A product with a side this short or shorter reads more than it computes, and has a curve of its own."""


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, defer_build=True, extra="forbid", ignored_types=(cached_property,))


class Curve(_Document):
    """Rates over sizes: FLOP/s over FLOPs of one product, or bytes/s over bytes that one operation moves.

    `low` and `high` hold four of five measured points of that size.
    """

    operation: Operation
    dtype: str
    form: Form
    variable: Variable
    sizes: list[float] = Field(min_length=1)
    rates: list[float]
    low: list[float]
    high: list[float]

    def rate(self, size: Any) -> Any:
        """The rate at a size, on straight lines between the points in logarithms; beyond the ends, that of the end."""
        at = np.log(np.maximum(np.asarray(size, dtype=np.float64), 1.0))
        return np.exp(np.interp(at, self._logarithms[0], self._logarithms[1]))

    @cached_property
    def _logarithms(self) -> tuple[Floats, Floats]:
        return np.log(np.asarray(self.sizes)), np.log(np.asarray(self.rates))


class Phase(_Document):
    """How the curves add up in a phase of real steps.

    `factors` are how much longer each class of operations takes inside a step than by its curve; `operation_seconds` is
    what each operation costs besides (Python, dispatch, autograd's node), `group_product_seconds` what each expert's
    product does (its slices, and the tokens sent there and back); `mapped_seconds_per_byte` what a new block
    of memory costs that the allocator has to map, `heap_seconds_per_byte` what one costs that it had.
    """

    factors: Mapping[str, float]
    operation_seconds: float
    group_product_seconds: float
    mapped_seconds_per_byte: float
    heap_seconds_per_byte: float


class CalibratedRun(_Document):
    """A real model that the calibration ran: what it took and what the fit says of it."""

    label: str
    parameters: int
    measured: Mapping[str, float]
    fitted: Mapping[str, float]


class Calibration(_Document):
    """A device, calibrated. Never changed and never mixed with another."""

    schema_version: Literal[1] = 1
    id: str
    created_at: str = Field(description="ISO 8601, UTC")
    device_id: str
    device_class: str
    device: str
    fingerprint: str = Field(description="what tells this machine's hardware from another's")
    threads: int | None
    clock: Literal["wall", "processor"]
    stack: dict[str, Any]
    curves: list[Curve]
    forward: Phase
    backward: Phase
    optimizer_factor: float = Field(description="how much longer an optimizer step takes than by its curve")
    optimizer_tensor_seconds: float = Field(description="what each trained tensor costs besides")
    mapped_from_bytes: int = Field(description="blocks at least this large are mapped anew each time")
    interval: tuple[float, float] = Field(description="shortest and longest measured over fitted time of four in five")
    runs: list[CalibratedRun]
    seconds: float = Field(description="how long calibrating took")

    def __hash__(self) -> int:
        return hash(self.id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Calibration) and self.id == other.id

    def curve(self, operation: str, dtype: str, form: str) -> Curve:
        """The curve of a class; another dtype's or form's where this one was not measured."""
        key = (operation, dtype, form)
        found = self._curves.get(key)
        if found is None:
            found = self._curves[key] = max(
                (curve for curve in self.curves if curve.operation == operation),
                key=lambda curve: (curve.dtype == dtype, curve.form == form, curve.dtype == "float32"),
            )
        return found

    @cached_property
    def _curves(self) -> dict[tuple[str, str, str], Curve]:
        return {(curve.operation, curve.dtype, curve.form): curve for curve in self.curves}

    @property
    def basis_words(self) -> str:
        """What an interval by this calibration rests on."""
        return f"calibration {self.id[:8]} of {self.day}"

    @property
    def day(self) -> str:
        """The date of the calibration."""
        return self.created_at[:10]
