"""The time of one optimizer step, what it is spent on, and how far off it may be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, Literal

import numpy as np

from planner.architecture.spec import ModelSpec
from planner.hardware.calibration import Calibration
from planner.hardware.profile import DeviceProfile
from planner.step.program import StepProgram
from planner.step.rules import StepRules
from planner.step.sizes import Quantity, maximum
from planner.throughput.calibrated import StepRows, optimizer_seconds, phase_parts, phase_seconds, step_rows
from planner.throughput.monomials import monomial_values
from planner.throughput.rates import Basis, Rates, UnknownRate, link_of, rates_of, reachable_flops
from planner.throughput.table import CLASSES, Floats, WorkTable, work_table

Bound = Literal["compute", "memory", "communication"]
COMPUTE_BOUND: Final = frozenset({"matmul", "attention"})
"""Classes whose calibrated rates are of FLOPs; those of the others are of bytes."""
LARGEST_INTEGER: Final = 2**63 - 1


@dataclass(slots=True)
class OperationSeconds:
    """What a class of operations computes, moves and takes in one optimizer step; `bound_by` may be an array."""

    operation: str
    flops: Quantity
    bytes: Quantity
    seconds: Quantity
    bound_by: Any


@dataclass(slots=True)
class StepTime:
    """One optimizer step with all its micro-batches.

    `interval` holds the likely shortest and longest `step_seconds`. `tokens_per_second` is over all devices.
    `phases` holds the seconds of forward, backward and optimizer_step where a calibration tells them apart.
    `mfu` is the share of `peak_flops`, None when the dense peak of the compute dtype is unknown. Communication that
    hides behind computing is in `operations` in full, so that their seconds may add up to more than the step's.
    """

    step_seconds: Quantity
    interval: tuple[Quantity, Quantity]
    interval_basis: str
    tokens_per_second: Quantity
    mfu: Quantity | None
    basis: Basis
    operations: tuple[OperationSeconds, ...]
    peak_flops: float | None
    phases: Mapping[str, Quantity] = field(default_factory=dict[str, Quantity])


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A calibration of the device, and (elements, how many) of every trained tensor in `dtype`."""

    calibration: Calibration
    tensors: Sequence[tuple[int, int]]
    dtype: str


def step_time(  # noqa: PLR0913  (a plan has this many quantities; all but four are by keyword)
    program: StepProgram,
    rules: StepRules,
    spec: ModelSpec,
    device: DeviceProfile,
    *,
    batch: Any,
    sequence: Any,
    rank: Any,
    gradient_accumulation_steps: Any,
    optimizer_bytes: Any,
    paged_bytes: Any = 0,
    data_parallel: int = 1,
    zero_stage: int = 0,
    communication_bytes: Any = 0,
    calibrated: Calibrated | None = None,
) -> StepTime:
    """The roofline's time of a step: seconds = max(FLOPs / sustained rate, bytes / sustained bandwidth) + launches.

    It is summed over all kernels (Williams et al. 2009, doi 10.1145/1498765.1498785); the rates are the catalogue's
    peaks times its measured efficiencies. batch, sequence, rank, gradient_accumulation_steps, optimizer_bytes,
    paged_bytes and communication_bytes are ints, or int64 arrays that broadcast; the results follow.

    Args:
        program: the compiled step; `rules` and `spec` are those that it was compiled from.
        rules: the resolved settings of the run.
        spec: the model.
        device: one logical device.
        batch: micro-batch of one rank, `sequence` its length, `rank` of the adapters (any value without adapters).
        sequence: tokens of one sequence.
        rank: rank of the adapters.
        gradient_accumulation_steps: micro-batches in one optimizer step.
        optimizer_bytes: bytes read and written in device memory by the optimizer step of one rank.
        paged_bytes: those that it reads and writes in host memory, over the host's link.
        data_parallel: ranks that train together.
        zero_stage: 3 gathers weights during forward as well.
        communication_bytes: bytes that one rank sends in an optimizer step, from `bytes_sent`.
        calibrated: measured rates of this very device, which then replace the catalogue's.

    Raises:
        UnknownRate: the device's rate for a dtype, its bandwidth or, with several ranks, its link is not known.
        ValueError: several ranks but no communication_bytes.
    """
    table = work_table(program, rules, spec)
    plans = _Plans.of(
        batch, sequence, rank, gradient_accumulation_steps, optimizer_bytes, paged_bytes, communication_bytes
    )
    if calibrated is None:
        spent = _by_roofline(table, rates_of(device, table.dtypes), plans)
    else:
        spent = _by_calibration(table, calibrated, step_rows(program, rules, spec), plans)
    operations = [*spent.operations]
    seconds = sum(operation.seconds for operation in operations)
    if data_parallel > 1:
        sent = _communication(device, plans.communication_bytes)
        seconds = seconds + _exposed(sent.seconds, operations, plans.micro_batches, zero_stage)
        operations.append(sent)
    tokens = plans.batch * plans.sequence * plans.micro_batches * data_parallel
    peak = reachable_flops(device, rules.compute_dtype)
    low, high = spent.interval
    return StepTime(
        step_seconds=plans.shaped(seconds),
        interval=(plans.shaped(seconds * low), plans.shaped(seconds * high)),
        interval_basis=spent.interval_basis,
        tokens_per_second=plans.shaped(tokens / seconds),
        mfu=None if peak is None else plans.shaped(spent.model_flops / seconds / peak),
        basis=spent.basis,
        operations=tuple(plans.shaped_operation(operation) for operation in operations),
        peak_flops=peak,
        phases={name: plans.shaped(value) for name, value in spent.phases.items()},
    )


def seconds_to_finish(time: StepTime, tokens_total: Any) -> Quantity:
    """Seconds to train on `tokens_total` tokens at the step's rate over all devices."""
    return tokens_total / time.tokens_per_second


@dataclass(slots=True)
class _Plans:
    """The inputs: ints of one plan, or flat arrays of one length; `shape` is what the arrays' results are given in."""

    shape: tuple[int, ...] | None
    batch: Quantity
    sequence: Quantity
    rank: Quantity
    micro_batches: Quantity
    optimizer_bytes: Quantity
    paged_bytes: Quantity
    communication_bytes: Quantity

    @classmethod
    def of(cls, *inputs: Any) -> _Plans:
        if not any(isinstance(value, np.ndarray) for value in inputs):
            if max(inputs) > LARGEST_INTEGER:
                raise OverflowError("a quantity of the plan is beyond what 64-bit integers hold")
            return cls(None, *inputs)
        arrays = np.broadcast_arrays(*(np.asarray(value, dtype=np.int64) for value in inputs))
        return cls(arrays[0].shape, *(np.ravel(array) for array in arrays))

    def quantities(self, values: Floats) -> list[Quantity]:
        """Rows of [rows, plans]: floats, which are far quicker to go on with, for one plan; arrays for several."""
        return values[:, 0].tolist() if self.shape is None else list(values)

    def shaped(self, values: Any) -> Any:
        """Results in the shape of the inputs."""
        return values if self.shape is None else np.reshape(values, self.shape)

    def shaped_operation(self, operation: OperationSeconds) -> OperationSeconds:
        if self.shape is None:
            return operation
        parts = (operation.flops, operation.bytes, operation.seconds, operation.bound_by)
        return OperationSeconds(operation.operation, *(self.shaped(part) for part in parts))


@dataclass(frozen=True, slots=True)
class _Roofline:
    """What of a table's roofline depends on the device only: the rates [2 kernels, 1], launches in seconds."""

    rates: Floats
    launch_seconds: Floats


@lru_cache(maxsize=1024)
def _roofline(table: WorkTable, rates: Rates) -> _Roofline:
    computing = [rates.computing(kind, dtype) for kind, dtype in table.kinds]
    moving = [rates.memory] * len(table.kinds)
    return _Roofline(np.array([*computing, *moving])[:, None], table.launches * rates.launch_seconds)


@dataclass(slots=True)
class _Spent:
    """What one rank computes in a step, and how sure that is: `interval` holds factors of the seconds."""

    operations: list[OperationSeconds]
    model_flops: Quantity
    interval: tuple[float, float]
    interval_basis: str
    basis: Basis
    phases: Mapping[str, Quantity]


def _values(table: WorkTable, plans: _Plans) -> Floats:
    """The table's monomials for each plan, [monomials, plans]."""
    return monomial_values(table.monomials, table.variables, plans.batch, plans.sequence, plans.rank)


def _by_roofline(table: WorkTable, rates: Rates, plans: _Plans) -> _Spent:
    """Every kernel takes the longer of its computing and its moving of bytes."""
    roofline, rows = _roofline(table, rates), len(table.kinds)
    work = table.work @ _values(table, plans)
    kernels = work[: 2 * rows] / roofline.rates
    computing, moving = kernels[:rows], kernels[rows:]
    seconds = table.times * (np.maximum(computing, moving) + roofline.launch_seconds) / rates.step_fraction
    by_class = plans.quantities(table.members @ seconds)
    compute_bound = plans.quantities(table.members @ (seconds * (computing >= moving)))
    bounds = [_larger_bound(c, s) for c, s in zip(compute_bound, by_class, strict=True)]
    operations, model_flops = _operations(plans, plans.quantities(work[2 * rows :]), by_class, bounds)
    operations.append(_optimizer(rates, plans.optimizer_bytes, plans.paged_bytes))
    return _Spent(operations, model_flops, rates.interval, rates.interval_basis, rates.basis, {})


def _by_calibration(table: WorkTable, calibrated: Calibrated, rows: StepRows, plans: _Plans) -> _Spent:
    """Every operation by its curve (`planner.throughput.calibrated`)."""
    calibration = calibrated.calibration
    totals = table.work[2 * len(table.kinds) :] @ _values(table, plans)
    parts = phase_parts(rows, calibration, plans.batch, plans.sequence, plans.rank)
    phases = {
        "forward": phase_seconds(parts["forward"], calibration.forward),
        "backward": phase_seconds(parts["backward"], calibration.backward),
    }
    stacked = np.stack([sum(phase.get(name, 0.0) for phase in phases.values()) + np.zeros(1) for name in CLASSES])
    by_class = plans.quantities(stacked)
    bounds = [
        _all("compute" if name in COMPUTE_BOUND else "memory", s) for name, s in zip(CLASSES, by_class, strict=True)
    ]
    operations, model_flops = _operations(plans, plans.quantities(totals), by_class, bounds)
    moved = plans.optimizer_bytes + plans.paged_bytes
    update = optimizer_seconds(calibration, calibrated.tensors, calibrated.dtype, moved, parts)
    operations.append(OperationSeconds("optimizer", moved * 0.0, moved * 1.0, update, _all("memory", moved)))
    sums = plans.quantities(np.stack([sum(phase.values()) + np.zeros(1) for phase in phases.values()]))
    seconds = {name: value * plans.micro_batches for name, value in zip(phases, sums, strict=True)}
    return _Spent(
        operations, model_flops, calibration.interval, calibration.basis_words, "calibrated",
        seconds | {"optimizer_step": update},
    )  # fmt: skip


def _operations(
    plans: _Plans, totals: list[Quantity], by_class: list[Quantity], bounds: list[Any]
) -> tuple[list[OperationSeconds], Quantity]:
    """Classes that take time with their FLOPs, bytes and seconds over all micro-batches, and the model's FLOPs."""
    *sums, model_flops = totals
    flops, moved, count = sums[: len(CLASSES)], sums[len(CLASSES) :], plans.micro_batches
    operations = [
        OperationSeconds(name, f * count, m * count, s * count, bound)
        for name, f, m, s, bound in zip(CLASSES, flops, moved, by_class, bounds, strict=True)
        if (s > 0 if plans.shape is None else np.any(s > 0))
    ]
    return operations, model_flops * count


def _larger_bound(compute_bound: Quantity, seconds: Quantity) -> Any:
    """What bounds the kernels that take at least half of a class's seconds."""
    if isinstance(seconds, np.ndarray):
        return np.where(2 * compute_bound >= seconds, "compute", "memory")
    return "compute" if 2 * compute_bound >= seconds else "memory"


def _optimizer(rates: Rates, moved: Quantity, paged: Quantity) -> OperationSeconds:
    """The optimizer step reads and writes its states, gradients and weights once; its arithmetic hides behind that."""
    seconds = (moved / rates.memory + paged / rates.host_link) / rates.step_fraction
    return OperationSeconds("optimizer", moved * 0.0, (moved + paged) * 1.0, seconds, _all("memory", moved))


def _communication(device: DeviceProfile, sent: Quantity) -> OperationSeconds:
    if not np.all(sent > 0):
        raise ValueError("several data-parallel ranks need communication_bytes (planner.throughput.bytes_sent)")
    link = link_of(device)
    if link is None:
        raise UnknownRate(device, "link between devices")
    seconds = sent / link
    return OperationSeconds("communication", sent * 0.0, sent * 1.0, seconds, _all("communication", sent))


def _all(bound: Bound, like: Quantity) -> Any:
    return np.full(like.size, bound) if isinstance(like, np.ndarray) else bound


def _exposed(
    sent_seconds: Quantity, operations: list[OperationSeconds], micro_batches: Quantity, zero_stage: int
) -> Quantity:
    """Communication that nothing hides.

    Gradients travel while the last micro-batch's backward runs (arXiv 2006.15704, section 3.2.3), two thirds of its
    computing; ZeRO-3's gathered weights travel during all of it (FSDP's prefetching, arXiv 2304.11277, section 4.3).
    """
    computing = sum(operation.seconds for operation in operations if operation.operation != "optimizer")
    hidden = computing if zero_stage == 3 else computing * (2 / 3) / micro_batches
    return maximum(sent_seconds - hidden, 0.0)
