"""A calibration with round numbers, so that a test can say what a step takes."""

from __future__ import annotations

from planner.hardware.calibration import CalibratedRun, Calibration, Curve, Form, Operation, Phase, Variable
from planner.throughput.calibrated import PARTS

FLOPS = 1e11
BYTES = 1e10


def curve(operation: Operation, form: Form, variable: Variable, rate: float, dtype: str = "float32") -> Curve:
    """The same rate at every size."""
    return Curve(
        operation=operation, dtype=dtype, form=form, variable=variable, sizes=[1e3, 1e9], rates=[rate, rate],
        low=[rate, rate], high=[rate, rate],
    )  # fmt: skip


def phase(operation_seconds: float = 0.0, mapped: float = 0.0) -> Phase:
    """Every factor one."""
    return Phase(
        factors=dict.fromkeys(PARTS, 1.0),
        operation_seconds=operation_seconds,
        group_product_seconds=0.0,
        mapped_seconds_per_byte=mapped,
        heap_seconds_per_byte=0.0,
    )


def flat_calibration(
    calibration_id: str = "flat",
    fingerprint: str = "a processor",
    created_at: str = "2026-11-24T12:00:00+00:00",
    device_id: str = "this-machine",
    operation_seconds: float = 0.0,
) -> Calibration:
    """100 GFLOP/s for what computes and 10 GB/s for what moves, of any size."""
    computing = ("matmul", "narrow_matmul", "attention")
    curves = [curve(name, "forward", "flops", FLOPS) for name in computing]
    curves += [curve(name, "forward", "bytes", BYTES) for name in ("elementwise", "activation", "loss", "optimizer")]
    return Calibration(
        id=calibration_id,
        created_at=created_at,
        device_id=device_id,
        device_class="cpu/a-processor",
        device="A processor",
        fingerprint=fingerprint,
        threads=2,
        clock="wall",
        stack={"packages": {"torch": "2.13.0"}, "system": "Linux"},
        curves=curves,
        forward=phase(operation_seconds),
        backward=phase(operation_seconds),
        optimizer_factor=1.0,
        optimizer_tensor_seconds=0.0,
        mapped_from_bytes=2**25,
        interval=(0.9, 1.1),
        runs=[
            CalibratedRun(
                label="llama-small full float32 1 x 128",
                parameters=6_800_000,
                measured={"forward": 0.02, "backward": 0.04, "optimizer_step": 0.02},
                fitted={"forward": 0.021, "backward": 0.039, "optimizer_step": 0.02},
            )
        ],
        seconds=88.0,
    )
