"""What the engine says of each measured run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from planner.architecture.config import ConfigError
from planner.catalog.models import UnknownModel, model
from planner.contract import Answer, DeviceMemory, EstimateRequest
from planner.corpus import MeasuredRun, measured_runs
from planner.errors import PlanError
from planner.estimate import estimate
from planner.hardware import Machine, MachineError, resolve_machine
from planner.interval import device_class

FIELD_OF: Final = {
    "allocated": "peak_allocated_bytes",
    "active": "peak_allocated_bytes",
    "reserved": "peak_reserved_bytes",
    "process": "peak_process_bytes",
    "resident": "peak_reserved_bytes",
    "unknown": "peak_reserved_bytes",
}
"""The predicted figure that each kind of peak is held against; on a CPU reserved is what is resident above the imports.

torch calls bytes active that are allocated or wait for another stream. A kind that nobody named is taken as reserved.
"""


@dataclass(frozen=True, slots=True)
class Prediction:
    """One run with its answer; `memory` is None where the plan is not modelled, `tokens_per_second` without a time."""

    run: MeasuredRun
    verdict: str
    reason: str
    memory: DeviceMemory | None
    tokens_per_second: float | None
    basis: str
    model_type: str
    vendor: str
    device_id: str
    device_class: str
    framework: str
    method: str
    devices: int

    def bytes_of(self, kind: str) -> int | None:
        """The predicted bytes that a peak of this kind is held against."""
        return None if self.memory is None else getattr(self.memory, FIELD_OF[kind])


def predict(run: MeasuredRun) -> Prediction:
    """The engine's prediction for one run; one that names what the catalogues don't hold is not modelled."""
    request = run.request
    try:
        config = request.model.config if request.model.config is not None else model(request.model.id or "").config
        machine = resolve_machine(request.machine)
    except (UnknownModel, MachineError) as error:
        return _unknown(run, str(error))
    answer, reason = _answer(request, config, machine)
    time = None if answer is None else answer.throughput
    device = machine.device
    return Prediction(
        run=run,
        verdict="not_modelled" if answer is None else answer.verdict,
        reason=reason,
        memory=None if answer is None or answer.memory is None else answer.memory.device,
        tokens_per_second=None if time is None else time.tokens_per_second,
        basis="" if time is None else time.basis,
        model_type=str(config.get("model_type", "unknown")),
        vendor=device.vendor,
        device_id=device.name if device.id == "custom" else device.id,
        device_class=device_class(device),
        framework=request.run.framework,
        method=request.run.method or "lora",
        devices=machine.logical_devices,
    )


def _unknown(run: MeasuredRun, reason: str) -> Prediction:
    return Prediction(
        run=run, verdict="not_modelled", reason=reason, memory=None, tokens_per_second=None, basis="",
        model_type="unknown", vendor="unknown", device_id="unknown", device_class="unknown",
        framework=run.request.run.framework, method=run.request.run.method or "lora",
        devices=run.request.machine.device_count,
    )  # fmt: skip


def _answer(request: EstimateRequest, config: Mapping[str, Any], machine: Machine) -> tuple[Answer | None, str]:
    """The answer, None where the request is refused; and the first reason."""
    try:
        answer = estimate(request, config=config, machine=machine, advice=False)
    except (PlanError, ConfigError) as error:
        return None, str(error)
    return answer, answer.reasons[0].message if answer.reasons else ""


def predictions_of(runs: Iterable[MeasuredRun]) -> tuple[Prediction, ...]:
    """The predictions for these runs, in their order."""
    return tuple(predict(run) for run in runs)


@cache
def predictions() -> tuple[Prediction, ...]:
    """The predictions for every run of the catalogue: about a second the first time, then remembered."""
    return predictions_of(measured_runs())
