"""One plan weighed: ledger, time and verdict. Answers, advice and search all come from here."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from planner.architecture.spec import ModelSpec
from planner.contract import EstimateRequest, Reason, SoftwareSupport, Verdict
from planner.errors import NotModelledError, PlanError
from planner.hardware import Machine
from planner.memory.ledger import Ledger, build, optimizer_choice
from planner.memory.sharding import Sharding
from planner.memory.tensors import base_modules, trained
from planner.plan import Plan, resolve
from planner.step.blocks import NotModelled
from planner.step.program import compile_step
from planner.step.rules import StepRules
from planner.support import support_for, support_warnings, unsupported_reason
from planner.throughput import StepTime, UnknownRate, bytes_sent, step_time
from planner.units import format_bytes

INTERVAL_LOW: Final = (95, 100)
INTERVAL_HIGH: Final = (110, 100)
"""[0.95, 1.10] x required, the contract's prior until the intervals are fitted to the measurement corpus."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What became of one request. `ledger` and `time` are None where the plan is not modelled."""

    plan: Plan
    ledger: Ledger
    time: StepTime | None
    verdict: Verdict
    reasons: tuple[Reason, ...]
    interval: tuple[int, int]
    warnings: tuple[str, ...]
    software: tuple[SoftwareSupport, ...]

    @property
    def headroom_bytes(self) -> int:
        """Usable minus required, on the device."""
        return self.plan.machine.usable_bytes - self.ledger.required_bytes


def evaluate(request: EstimateRequest, spec: ModelSpec, machine: Machine) -> Evaluation:
    """Weigh one request.

    Raises:
        PlanError: the request contradicts itself.
        NotModelledError: no formula covers it.
    """
    try:
        plan = resolve(request, spec, machine)
        _refuse_nothing_trained(plan)
        ledger = build(plan)
    except NotModelled as error:
        raise NotModelledError("block_not_modelled", "model.config", str(error)) from error
    return weigh(plan, ledger)


def _refuse_nothing_trained(plan: Plan) -> None:
    """PEFT refuses target modules of which the model has none; a step without a trained parameter has no backward."""
    rules = plan.rules
    if _trains_something(plan.spec, rules):
        return
    if rules.has_adapters:
        raise PlanError(
            "no_target_modules", "run.lora.target_modules", rules.targets, "names of this model's linear modules",
            "run.lora.target_modules names no module of this model that an adapter can sit on",
        )  # fmt: skip
    raise PlanError(
        "nothing_trained", "run.freeze.trainable_layers", rules.trainable_layers, "1 or more",
        "run.freeze.trainable_layers is 0, so that no parameter is trained",
    )  # fmt: skip


@lru_cache(maxsize=1024)
def _trains_something(spec: ModelSpec, rules: StepRules) -> bool:
    if rules.has_adapters:
        return any(rules.adapts(m) or rules.adapts_parameter(m) for m, _ in base_modules(spec, rules))
    return bool(trained(spec, rules, rank=1))  # without adapters, no rank matters


def weigh(plan: Plan, ledger: Ledger) -> Evaluation:
    """What a ledger means for its plan: verdict, reasons, interval and time."""
    interval = interval_of(ledger.required_bytes)
    software = tuple(support_for(plan.machine.device, plan.needs))
    reasons = _reasons(plan, ledger, software)
    time, warnings = _time(plan, ledger)
    return Evaluation(
        plan,
        ledger,
        time,
        _verdict(reasons),
        tuple(reasons),
        interval,
        (*plan.warnings, *warnings, *support_warnings(software)),
        software,
    )


def interval_of(required_bytes: int) -> tuple[int, int]:
    """The interval of the required bytes."""
    return (
        required_bytes * INTERVAL_LOW[0] // INTERVAL_LOW[1],
        required_bytes * INTERVAL_HIGH[0] // INTERVAL_HIGH[1],
    )


def _verdict(reasons: list[Reason]) -> Verdict:
    """The first of the contract's order that holds."""
    codes = {reason.code.split(":")[0] for reason in reasons}
    if codes & {"device_memory", "host_memory", "disk_space", "single_allocation"}:
        return "does_not_fit"
    if any(reason.code.startswith("unsupported") for reason in reasons):
        return "unsupported"
    return "tight" if codes & {"device_memory_tight", "host_memory_tight"} else "fits"


def _reasons(plan: Plan, ledger: Ledger, software: tuple[SoftwareSupport, ...]) -> list[Reason]:
    machine = plan.machine
    needed = host_peak_bytes(plan, ledger) if machine.device.kind == "cpu" else ledger.required_bytes
    reasons = _memory_reasons(
        "device", "machine.device", needed, interval_of(needed), machine.usable_bytes, _place(machine)
    )
    if machine.host_usable_bytes is not None and machine.device.kind != "cpu":
        host = host_peak_bytes(plan, ledger)
        where = "memory of the host" if not machine.shared_with_host else "memory that device and host share"
        reasons += _memory_reasons(
            "host", "machine.host_memory_gib", host, interval_of(host), machine.host_usable_bytes, where
        )
    disk = sum(ledger.disk_terms.values())
    if machine.disk_free_bytes is not None and disk > machine.disk_free_bytes:
        text = f"needs {format_bytes(disk)} of disk, {format_bytes(machine.disk_free_bytes)} are free"
        reasons.append(Reason(code="disk_space", field="machine.disk_free_gib", message=text))
    reasons += _allocation_reasons(plan, ledger)
    unsupported = unsupported_reason(software)
    return [*reasons, unsupported] if unsupported is not None else reasons


def _allocation_reasons(plan: Plan, ledger: Ledger) -> list[Reason]:
    """A driver's limit on one allocation (Intel Arc: 4 GB)."""
    limit = plan.machine.device.supports.max_single_allocation_bytes
    if limit is None or ledger.largest_storage_bytes <= limit:
        return []
    largest = format_bytes(ledger.largest_storage_bytes)
    text = f"needs one allocation of {largest}, the driver gives at most {format_bytes(limit)} at once"
    return [Reason(code="single_allocation", field="machine.device", message=text)]


def _place(machine: Machine) -> str:
    if machine.device.kind == "cpu":
        return "machine's memory"
    return "device's memory" if machine.logical_devices == 1 else "memory of each device"


def host_peak_bytes(plan: Plan, ledger: Ledger) -> int:
    """Host bytes of the run; on a shared pool the device's share is in it."""
    own = sum(ledger.host_terms.values())
    shared = ledger.required_bytes * plan.machine.logical_devices if plan.machine.shared_with_host else 0
    return own + shared


def _memory_reasons(
    kind: str, field: str, needed: int, interval: tuple[int, int], usable: int, where: str
) -> list[Reason]:
    text = f"needs {format_bytes(needed)} of the {where}, {format_bytes(usable)} are usable"
    if interval[0] > usable:
        return [Reason(code=f"{kind}_memory", field=field, message=text)]
    if interval[1] > usable:
        spread = f"{format_bytes(interval[0])} to {format_bytes(interval[1])}"
        return [Reason(code=f"{kind}_memory_tight", field=field, message=f"{text}; the estimate ranges from {spread}")]
    return []


def _time(plan: Plan, ledger: Ledger) -> tuple[StepTime | None, tuple[str, ...]]:
    held, rules = ledger.resident, plan.rules
    sharding = Sharding(plan.zero_stage, plan.data_parallel)
    sent = bytes_sent(
        gradient_bytes=ledger.communication_bytes * sharding.gradient_shards,
        weight_bytes=held.weights * sharding.weight_shards * rules.weights_width // rules.stored_width,
        data_parallel=plan.data_parallel,
        zero_stage=plan.zero_stage,
        gradient_accumulation_steps=plan.gradient_accumulation_steps,
    )
    try:
        return (
            step_time(
                compile_step(plan.spec, rules), rules, plan.spec, plan.machine.device,
                batch=plan.micro_batch_size, sequence=plan.sequence_length, rank=plan.rank,
                gradient_accumulation_steps=plan.gradient_accumulation_steps,
                optimizer_bytes=held.optimizer_traffic, data_parallel=plan.data_parallel,
                zero_stage=plan.zero_stage, communication_bytes=sent,
            ),
            (),
        )  # fmt: skip
    except UnknownRate as error:
        return None, (f"no time: {error}",)
    except OverflowError:
        return None, ("no time: the plan is beyond what 64-bit numbers hold",)


__all__ = ["Evaluation", "evaluate", "host_peak_bytes", "interval_of", "optimizer_choice", "weigh"]
