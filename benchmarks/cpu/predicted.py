"""What trainfit says of a case on this machine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

from app.detect.detect import detect
from app.detect.resolve import to_machines
from benchmarks.cpu.cases import Case
from planner.contract import EstimateRequest
from planner.estimate import estimate
from planner.hardware import Machine, resolve_machine


@dataclass(frozen=True, slots=True)
class Predicted:
    """The figures of an answer that a run can be compared with."""

    live_bytes: int
    resident_bytes: int
    context_bytes: int
    moment: str
    seconds: float
    interval: tuple[float, float]


@cache
def this_machine() -> Machine:
    """One core of this machine, as `trainfit check` detects it."""
    found = detect()
    assert found.cpu is not None
    alone = replace(found, cpu=replace(found.cpu, cores=1))
    return next(machine for machine in to_machines(alone) if machine.device.kind == "cpu")


def predict(case: Case) -> Predicted:
    """The answer of the engine."""
    asked = EstimateRequest.model_validate(
        {"model": {"config": case.config}, "machine": {"device": "this-machine"}, "run": case.run}
    )
    machine = resolve_machine(asked.machine, this_machine())
    answer = estimate(asked, config=case.config, machine=machine, advice=False)
    assert answer.memory is not None
    assert answer.throughput is not None
    device = answer.memory.device
    low, high = answer.throughput.interval
    return Predicted(
        live_bytes=device.peak_allocated_bytes,
        resident_bytes=device.peak_reserved_bytes,
        context_bytes=device.terms.outside_allocator,
        moment=device.peak_moment,
        seconds=answer.throughput.step_seconds,
        interval=(low, high),
    )
