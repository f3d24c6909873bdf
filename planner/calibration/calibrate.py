"""The calibrating job: short jobs, small real models, and what is fitted to both."""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import torch

from planner.calibration.build import settings_for
from planner.calibration.device import Device
from planner.calibration.fit import Sample, curves, interval_of, optimizer, phase, without
from planner.calibration.measure import Reporter, Taken, Task, take
from planner.calibration.micro import MicroBenchmarks, Point, mapping_seconds_per_byte
from planner.calibration.models import Example, examples
from planner.estimate import sha256_of, spec_of
from planner.evaluation import evaluate
from planner.hardware import Machine
from planner.hardware.calibration import CalibratedRun, Calibration, Phase
from planner.memory.processor import LARGEST_HEAP_BLOCK
from planner.memory.tensors import trained
from planner.plan import Plan
from planner.step.compiler import compile_step
from planner.throughput.calibrated import PhaseParts, optimizer_seconds, phase_parts, phase_seconds, step_rows

STEPS: Final = 8
SECONDS_A_RUN: Final = 4.0
NEVER_MAPPED: Final = 2**62
UNFITTED: Final = Phase(
    factors=dict.fromkeys(("matmul", "narrow_matmul", "attention", "elementwise", "activation", "loss"), 1.0),
    operation_seconds=0.0,
    group_product_seconds=0.0,
    mapped_seconds_per_byte=0.0,
    heap_seconds_per_byte=0.0,
)


class Progress(Protocol):
    """Who hears how far a calibration is."""

    def point(self, number: int, of: int, seconds: float, label: str) -> None:
        """A size or a model was measured."""
        ...


@dataclass(frozen=True, slots=True)
class Identity:
    """What is calibrated, when, and with which software."""

    id: str
    created_at: str
    device_id: str
    device_class: str
    fingerprint: str
    threads: int | None
    stack: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Measured:
    """A real model's run: its plan, its parts by the curves, and what was taken."""

    example: Example
    plan: Plan
    traffic_bytes: int
    taken: Taken


class _Silent:
    """A reporter for the steps inside a calibration, which are told as one point."""

    def phase(self, name: str, message: str = "") -> None:
        """Nothing."""

    def sample(self, number: int, of: int, seconds: float, tokens: int, device: Device) -> None:
        """Nothing."""


def calibrate(identity: Identity, machine: Machine, device: Device, progress: Progress) -> Calibration:
    """Measures and fits; about two minutes on two cores.

    The models run first, smallest first: glibc's threshold of mapping rises with the largest block that was freed
    (malloc/malloc.c, `mp_.mmap_threshold`), so that after the short jobs a small model would map less than by itself.
    """
    began = time.perf_counter()
    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType]
    dtypes = dtypes_of(device)
    plans = examples(dtypes)
    runs: list[Measured] = []
    for number, example in enumerate(plans, 1):
        runs.append(run(example, machine, device))
        progress.point(number, len(plans), min(runs[-1].taken.step_seconds), example.label)
        gc.collect()
    points: list[Point] = []
    for dtype in dtypes:
        points += MicroBenchmarks(device, dtype).all()
        progress.point(len(points), 0, 0.0, f"{dtype}: products, attention, bytes, loss, optimizer")
    mapped_from = LARGEST_HEAP_BLOCK if device.on_processor else NEVER_MAPPED
    mapping = mapping_seconds_per_byte(device, mapped_from)
    unfitted = _assemble(identity, machine, device, points, mapped_from)
    return _fitted(unfitted, runs, mapping, time.perf_counter() - began)


def dtypes_of(device: Device) -> tuple[str, ...]:
    """The dtypes that are measured: float32, and the 16-bit one that the device computes in."""
    if device.type == "cuda" and not torch.cuda.is_bf16_supported():
        return ("float32", "float16")
    return ("float32", "bfloat16")


def run(example: Example, machine: Machine, device: Device) -> Measured:
    """One real model's steps, timed only."""
    evaluation = evaluate(example.request, spec_of(example.config, sha256_of(example.config)), machine)
    settings = settings_for(evaluation.plan, example.request.run, None)
    reporter: Reporter = _Silent()
    task = Task(example.config, settings, device, STEPS, SECONDS_A_RUN, weighs=False)
    taken = take(task, reporter)
    return Measured(example, evaluation.plan, evaluation.ledger.resident.optimizer_traffic, taken)


def _assemble(
    identity: Identity, machine: Machine, device: Device, points: list[Point], mapped_from: int
) -> Calibration:
    """The curves alone."""
    return Calibration(
        id=identity.id,
        created_at=identity.created_at,
        device_id=identity.device_id,
        device_class=identity.device_class,
        device=machine.device.name if device.on_processor else device.name,
        fingerprint=identity.fingerprint,
        threads=identity.threads,
        clock=device.clock,
        stack=dict(identity.stack),
        curves=curves(points),
        forward=UNFITTED,
        backward=UNFITTED,
        optimizer_factor=1.0,
        optimizer_tensor_seconds=0.0,
        mapped_from_bytes=mapped_from,
        interval=(1.0, 1.0),
        runs=[],
        seconds=0.0,
    )


def _fitted(unfitted: Calibration, runs: list[Measured], mapping: float, seconds: float) -> Calibration:
    """With the factors that the real models show, and the interval that each shows when the others predict it."""
    parts = [parts_of(run.plan, unfitted) for run in runs]
    fitted = _with_factors(unfitted, runs, parts, mapping)
    ratios: list[float] = []
    for index, measured in enumerate(runs):
        others = _with_factors(unfitted, without(runs, index), without(parts, index), mapping)
        ratios.append(
            sum(measured.taken.undisturbed_phases.values()) / sum(predicted(measured, parts[index], others).values())
        )
    shown = [
        CalibratedRun(
            label=measured.example.label,
            parameters=measured.taken.parameters,
            measured=measured.taken.undisturbed_phases,
            fitted=predicted(measured, part, fitted),
        )
        for measured, part in zip(runs, parts, strict=True)
    ]
    return fitted.model_copy(update={"interval": interval_of(ratios), "runs": shown, "seconds": seconds})


def _with_factors(
    unfitted: Calibration, runs: list[Measured], parts: list[dict[str, PhaseParts]], mapping: float
) -> Calibration:
    phases = {
        name: phase(
            [
                Sample(part[name], measured.taken.undisturbed_phases[name])
                for measured, part in zip(runs, parts, strict=True)
            ],
            mapping,
        )
        for name in ("forward", "backward")
    }
    known = unfitted.model_copy(update=phases)
    samples: list[tuple[float, float, float]] = []
    for measured, part in zip(runs, parts, strict=True):
        by_curve = _optimizer(measured, part, unfitted)
        given_back = _optimizer(measured, part, known) - by_curve
        samples.append(
            (by_curve, _tensor_count(measured.plan), measured.taken.undisturbed_phases["optimizer_step"] - given_back)
        )
    factor, tensor_seconds = optimizer(samples)
    return known.model_copy(update={"optimizer_factor": factor, "optimizer_tensor_seconds": tensor_seconds})


def _tensor_count(plan: Plan) -> int:
    return sum(tensor.count for tensor in trained(plan.spec, plan.rules, plan.rank))


def parts_of(plan: Plan, calibration: Calibration) -> dict[str, PhaseParts]:
    """A plan's phases by the curves."""
    rows = step_rows(compile_step(plan.spec, plan.rules), plan.rules, plan.spec)
    return phase_parts(rows, calibration, plan.micro_batch_size, plan.sequence_length, plan.rank)


def predicted(measured: Measured, parts: dict[str, PhaseParts], calibration: Calibration) -> dict[str, float]:
    """Seconds of each phase by a calibration."""
    rates = {"forward": calibration.forward, "backward": calibration.backward}
    seconds = {name: sum(float(part[0]) for part in phase_seconds(parts[name], rates[name]).values()) for name in rates}
    return seconds | {"optimizer_step": _optimizer(measured, parts, calibration)}


def _optimizer(measured: Measured, parts: dict[str, PhaseParts], calibration: Calibration) -> float:
    plan = measured.plan
    tensors = [(tensor.elements, tensor.count) for tensor in trained(plan.spec, plan.rules, plan.rank)]
    dtype = plan.rules.adapter_dtype if plan.rules.has_adapters else plan.rules.weights_dtype
    return optimizer_seconds(calibration, tensors, dtype, measured.traffic_bytes, parts)
