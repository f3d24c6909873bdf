"""One plan weighed: ledger, time and verdict. Answers, advice and search all come from here."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from planner.architecture.spec import ModelSpec
from planner.contract import EstimateRequest, Reason, SoftwareSupport, Verdict
from planner.errors import NotModelledError, PlanError
from planner.hardware import Machine
from planner.interval import Factors, memory_factors
from planner.memory.ledger import Ledger, Totals, build, totals
from planner.memory.sharding import Sharding
from planner.memory.tensors import base_modules, trained
from planner.plan import Plan, Points, resolve
from planner.step.blocks import NotModelled
from planner.step.compiler import compile_run
from planner.step.rules import StepRules
from planner.step.sizes import Quantity, choose
from planner.support import support_for, support_warnings, unsupported_reason
from planner.throughput import Calibrated, StepTime, UnknownRate, bytes_sent, step_time
from planner.units import format_bytes


@dataclass(slots=True)
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
    plan = prepare(request, spec, machine)
    try:
        ledger = build(plan)
    except NotModelled as error:
        raise _not_modelled(error) from error
    return weigh(plan, ledger)


def prepare(request: EstimateRequest, spec: ModelSpec, machine: Machine) -> Plan:
    """The request as a plan that can be weighed.

    Raises:
        PlanError: the request contradicts itself, or trains nothing.
        NotModelledError: no formula covers it.
    """
    try:
        plan = resolve(request, spec, machine)
        _refuse_nothing_trained(plan)
    except NotModelled as error:
        raise _not_modelled(error) from error
    return plan


def _not_modelled(error: NotModelled) -> NotModelledError:
    return NotModelledError("block_not_modelled", "model.config", str(error))


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
    software = support_for(plan.machine.device, plan.needs)
    unsupported, limits = unsupported_reason(software), _limits(plan, ledger)
    reasons = [*(limit.reason() for limit in limits), unsupported]
    time, warnings = _time(plan, plan.points, ledger)
    grade: int = _grade(limits, supported=unsupported is None)
    return Evaluation(
        plan,
        ledger,
        time,
        VERDICTS[grade],
        tuple(reason for reason in reasons if reason is not None),
        memory_factors(plan.machine.device).around(ledger.required_bytes),
        (*plan.warnings, *warnings, *support_warnings(software)),
        software,
    )


@dataclass(frozen=True, slots=True)
class Survey:
    """What became of many plans that differ in their sizes: arrays, one element a plan.

    `grades` are positions in VERDICTS. `time` is None where the device's rates are not known, and `why_no_time` says
    what is missing.
    """

    totals: Totals
    grades: NDArray[np.int64]
    interval: tuple[Quantity, Quantity]
    time: StepTime | None
    why_no_time: tuple[str, ...]


def survey(plan: Plan, points: Points) -> Survey:
    """Weigh a plan (`prepare`) at many sizes: what `evaluate` says of each, without the words.

    Raises:
        NotModelledError: no formula covers the plan.
        OverflowError: some plan may need more than 4 PiB.
    """
    sums, grades = graded(plan, points)
    time, why = _time(plan, points, sums)
    return Survey(sums, grades, memory_factors(plan.machine.device).around(sums.required_bytes), time, why)


def countable(plan: Plan, points: Points) -> NDArray[np.bool_]:
    """At which of many sizes a plan that `survey` refuses with an OverflowError needs at most the 4 PiB it takes."""
    return compile_run(plan.spec, plan.rules).exact_at(points.batch, points.sequence, points.rank)


def graded(plan: Plan, points: Points) -> tuple[Totals, NDArray[np.int64]]:
    """The sums of a plan at many sizes and their verdicts, as positions in VERDICTS.

    Raises:
        NotModelledError: no formula covers the plan.
        OverflowError: some plan may need more than 4 PiB.
    """
    try:
        sums = totals(plan, points)
    except NotModelled as error:
        raise _not_modelled(error) from error
    supported = unsupported_reason(support_for(plan.machine.device, plan.needs)) is None
    return sums, np.broadcast_to(_grade(_limits(plan, sums), supported=supported), points.batch.shape)


# -- the verdict ----------------------------------------------------------------------------------------------------

VERDICTS: Final[tuple[Verdict, ...]] = ("fits", "tight", "unsupported", "does_not_fit")
"""Of modelled plans, from yes to no."""


@dataclass(slots=True)
class _Limit:
    """Something of which a plan may need more than there is: bytes, of one plan or of many.

    `code` is the reason where the low end of the interval is above what is usable, `code` with `_tight` where the high
    end is.
    """

    code: str
    field: str
    needed: Quantity
    interval: tuple[Quantity, Quantity]
    usable: int
    text: str

    @property
    def exceeded(self) -> Any:
        return self.interval[0] > self.usable

    @property
    def in_doubt(self) -> Any:
        return self.interval[1] > self.usable

    def reason(self) -> Reason | None:
        """The words for one plan, None where there is enough."""
        if not self.in_doubt:
            return None
        text = self.text.format(needed=format_bytes(self.needed), usable=format_bytes(self.usable))
        if self.exceeded:
            return Reason(code=self.code, field=self.field, message=text)
        low, high = (format_bytes(end) for end in self.interval)
        message = f"{text}; the estimate ranges from {low} to {high}"
        return Reason(code=f"{self.code}_tight", field=self.field, message=message)


def _limits(plan: Plan, sums: Totals) -> list[_Limit]:
    """Device, host, disk, and a driver's limit on one allocation (Intel Arc: 4 GB)."""
    machine, needed = plan.machine, sums.required_bytes
    on_host = host_peak_bytes(plan, sums)
    device = on_host if machine.device.kind == "cpu" else needed
    factors = memory_factors(machine.device)
    limits = [_memory_limit("device", "machine.device", device, factors, machine.usable_bytes, _place(machine))]
    if machine.host_usable_bytes is not None and machine.device.kind != "cpu":
        where = "memory of the host" if not machine.shared_with_host else "memory that device and host share"
        usable = machine.host_usable_bytes
        limits.append(_memory_limit("host", "machine.host_memory_gib", on_host, factors, usable, where))
    if machine.disk_free_bytes is not None:
        disk = sum(sums.disk_terms.values())
        text = "needs {needed} of disk, {usable} are free"
        limits.append(_Limit("disk_space", "machine.disk_free_gib", disk, (disk, disk), machine.disk_free_bytes, text))
    most = machine.device.supports.max_single_allocation_bytes
    if most is not None:
        largest = sums.largest_storage_bytes
        text = "needs one allocation of {needed}, the driver gives at most {usable} at once"
        limits.append(_Limit("single_allocation", "machine.device", largest, (largest, largest), most, text))
    return limits


def _memory_limit(kind: str, field: str, needed: Quantity, factors: Factors, usable: int, where: str) -> _Limit:
    text = f"needs {{needed}} of the {where}, {{usable}} are usable"
    return _Limit(f"{kind}_memory", field, needed, factors.around(needed), usable, text)


def _grade(limits: list[_Limit], *, supported: bool) -> Quantity:
    """Positions in VERDICTS: the worst that holds, by the contract's order."""
    exceeded, in_doubt = limits[0].exceeded, limits[0].in_doubt
    for limit in limits[1:]:
        exceeded, in_doubt = exceeded | limit.exceeded, in_doubt | limit.in_doubt
    return choose(exceeded, 3, choose(in_doubt, 1, 0) if supported else 2)


def _place(machine: Machine) -> str:
    if machine.device.kind == "cpu":
        return "machine's memory"
    return "device's memory" if machine.logical_devices == 1 else "memory of each device"


def host_peak_bytes(plan: Plan, sums: Totals) -> Quantity:
    """Host bytes of the run; on a shared pool the device's share is in it."""
    own = sum(sums.host_terms.values())
    shared = sums.required_bytes * plan.machine.logical_devices if plan.machine.shared_with_host else 0
    return own + shared


def _time(plan: Plan, points: Points, sums: Totals) -> tuple[StepTime | None, tuple[str, ...]]:
    held, rules = sums.resident, plan.rules
    sharding = Sharding(plan.zero_stage, plan.data_parallel)
    sent = bytes_sent(
        gradient_bytes=sums.communication_bytes * sharding.gradient_shards,
        weight_bytes=held.weights * sharding.weight_shards * rules.weights_width // rules.stored_width,
        data_parallel=plan.data_parallel,
        zero_stage=plan.zero_stage,
        gradient_accumulation_steps=plan.gradient_accumulation_steps,
    )
    try:
        return (
            step_time(
                compile_run(plan.spec, rules), rules, plan.spec, plan.machine.device,
                batch=points.batch, sequence=points.sequence, rank=points.rank,
                gradient_accumulation_steps=plan.gradient_accumulation_steps,
                optimizer_bytes=held.optimizer_traffic - 2 * held.host_optimizer_states,
                paged_bytes=2 * held.host_optimizer_states, data_parallel=plan.data_parallel,
                zero_stage=plan.zero_stage, communication_bytes=sent, calibrated=_calibrated(plan),
            ),
            (),
        )  # fmt: skip
    except UnknownRate as error:
        return None, (f"no time: {error}",)
    except OverflowError:
        return None, ("no time: the plan is beyond what 64-bit numbers hold",)


def _calibrated(plan: Plan) -> Calibrated | None:
    """What was measured on the plan's own device, with the tensors that its optimizer updates."""
    calibration, rules = plan.machine.calibration, plan.rules
    if calibration is None:
        return None
    dtype = rules.adapter_dtype if rules.has_adapters else rules.weights_dtype
    return Calibrated(calibration, _trained_tensors(plan.spec, rules, plan.rank), dtype)


@lru_cache(maxsize=1024)
def _trained_tensors(spec: ModelSpec, rules: StepRules, rank: int) -> tuple[tuple[int, int], ...]:
    """(elements, how many) of the tensors that are trained, equal ones together."""
    counts: Counter[int] = Counter()
    for tensor in trained(spec, rules, rank):
        counts[tensor.elements] += tensor.count
    return tuple(counts.items())


__all__ = [
    "VERDICTS",
    "Evaluation",
    "Survey",
    "evaluate",
    "graded",
    "host_peak_bytes",
    "prepare",
    "survey",
    "weigh",
]
