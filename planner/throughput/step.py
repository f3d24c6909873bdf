"""The time of one optimizer step, what it is spent on, and how far off it may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from planner.architecture.spec import ModelSpec
from planner.hardware.profile import DeviceProfile
from planner.step.program import StepProgram
from planner.step.rules import StepRules
from planner.step.sizes import maximum
from planner.throughput.rates import Basis, Rates, UnknownRate, peak_flops, rates_of
from planner.throughput.table import CLASSES, Floats, WorkTable, work_table

Quantity = Any
"""A float for one plan; a float64 array, one element a plan, when batch, sequence or rank are arrays."""
Bound = Literal["compute", "memory", "communication"]


@dataclass(frozen=True, slots=True)
class OperationSeconds:
    """What a class of operations computes, moves and takes in one optimizer step; `bound_by` may be an array."""

    operation: str
    flops: Quantity
    bytes: Quantity
    seconds: Quantity
    bound_by: Any


@dataclass(frozen=True, slots=True)
class StepTime:
    """One optimizer step with all its micro-batches.

    `interval` holds the likely shortest and longest `step_seconds`. `tokens_per_second` is over all devices.
    `mfu` is None when the dense peak of the compute dtype is unknown. Communication that hides behind computing is in
    `operations` in full, so that their seconds may add up to more than the step's.
    """

    step_seconds: Quantity
    interval: tuple[Quantity, Quantity]
    tokens_per_second: Quantity
    mfu: Quantity | None
    basis: Basis
    operations: tuple[OperationSeconds, ...]


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
    data_parallel: int = 1,
    zero_stage: int = 0,
    communication_bytes: Any = 0,
) -> StepTime:
    """The roofline's time of a step: seconds = max(FLOPs / sustained rate, bytes / sustained bandwidth) + launches.

    It is summed over all kernels (Williams et al. 2009, doi 10.1145/1498765.1498785); the rates are the catalogue's
    peaks times its measured efficiencies. batch, sequence, rank, gradient_accumulation_steps, optimizer_bytes and
    communication_bytes are ints, or int64 arrays that broadcast; the results follow.

    Args:
        program: the compiled step; `rules` and `spec` are those that it was compiled from.
        rules: the resolved settings of the run.
        spec: the model.
        device: one logical device.
        batch: micro-batch of one rank, `sequence` its length, `rank` of the adapters (any value without adapters).
        sequence: tokens of one sequence.
        rank: rank of the adapters.
        gradient_accumulation_steps: micro-batches in one optimizer step.
        optimizer_bytes: bytes read and written by the optimizer step of one rank.
        data_parallel: ranks that train together.
        zero_stage: 3 gathers weights during forward as well.
        communication_bytes: bytes that one rank sends in an optimizer step, from `bytes_sent`.

    Raises:
        UnknownRate: the device's rate for a dtype, its bandwidth or, with several ranks, its link is not known.
        ValueError: several ranks but no communication_bytes.
    """
    table = work_table(program, rules, spec)
    rates = rates_of(device, table.dtypes | {rules.compute_dtype})
    plans = _Plans.of(batch, sequence, rank, gradient_accumulation_steps, optimizer_bytes, communication_bytes)
    values = table.monomial_values(plans.batch, plans.sequence, plans.rank)
    operations = [*_operations(table, rates, values, plans.micro_batches), _optimizer(rates, plans.optimizer_bytes)]
    seconds = sum(operation.seconds for operation in operations)
    if data_parallel > 1:
        sent = _communication(device, rates, plans.communication_bytes)
        seconds = seconds + _exposed(sent.seconds, operations, plans.micro_batches, zero_stage)
        operations.append(sent)
    tokens = plans.batch * plans.sequence * plans.micro_batches * data_parallel
    model_flops = (table.model_flops @ values)[0] * plans.micro_batches
    peak = peak_flops(device, rules.compute_dtype)
    low, high = rates.interval
    return StepTime(
        step_seconds=plans.shaped(seconds),
        interval=(plans.shaped(seconds * low), plans.shaped(seconds * high)),
        tokens_per_second=plans.shaped(tokens / seconds),
        mfu=None if peak is None else plans.shaped(model_flops / seconds / peak),
        basis=rates.basis,
        operations=tuple(plans.shaped_operation(operation) for operation in operations),
    )


def seconds_to_finish(time: StepTime, tokens_total: Any) -> Quantity:
    """Seconds to train on `tokens_total` tokens at the step's rate over all devices."""
    return tokens_total / time.tokens_per_second


@dataclass(frozen=True, slots=True)
class _Plans:
    """The inputs as flat arrays of one length, one element a plan; `shape` is what results are given back in."""

    shape: tuple[int, ...] | None
    batch: NDArray[np.int64]
    sequence: NDArray[np.int64]
    rank: NDArray[np.int64]
    micro_batches: NDArray[np.int64]
    optimizer_bytes: NDArray[np.int64]
    communication_bytes: NDArray[np.int64]

    @classmethod
    def of(cls, *inputs: Any) -> _Plans:
        if not any(isinstance(value, np.ndarray) for value in inputs):
            return cls(None, *np.array(inputs, dtype=np.int64)[:, None])
        arrays = np.broadcast_arrays(*(np.asarray(value, dtype=np.int64) for value in inputs))
        return cls(arrays[0].shape, *(np.ravel(array) for array in arrays))

    def shaped(self, values: Any) -> Any:
        """Results in the form of the inputs: a float (or a word) for one plan, an array for several."""
        if self.shape is None:
            return values[0].item()
        return np.reshape(values, self.shape)

    def shaped_operation(self, operation: OperationSeconds) -> OperationSeconds:
        parts = (operation.flops, operation.bytes, operation.seconds, operation.bound_by)
        return OperationSeconds(operation.operation, *(self.shaped(part) for part in parts))


def _operations(
    table: WorkTable, rates: Rates, values: Floats, micro_batches: NDArray[np.int64]
) -> list[OperationSeconds]:
    """FLOPs, bytes and seconds by class, over all micro-batches. values: [monomials, plans]."""
    rate = np.array([rates.computing(kind, dtype) for kind, dtype in table.kinds])[:, None]
    flops, moved = table.flops @ values, table.bytes @ values
    computing, moving = flops / rate, moved / rates.memory
    seconds = table.times * (maximum(computing, moving) + table.launches * rates.launch_seconds) / rates.step_fraction
    compute_bound = table.members @ np.where(computing >= moving, seconds, 0.0)
    totals = (table.members @ (table.times * part) for part in (flops, moved))
    by_class = table.members @ seconds
    return [
        OperationSeconds(
            name, f * micro_batches, m * micro_batches, s * micro_batches, np.where(2 * c >= s, "compute", "memory")
        )
        for name, f, m, s, c in zip(CLASSES, *totals, by_class, compute_bound, strict=True)
        if np.any(s > 0)
    ]


def _optimizer(rates: Rates, moved: NDArray[np.int64]) -> OperationSeconds:
    """The optimizer step reads and writes its states, gradients and weights once; its arithmetic hides behind that."""
    seconds = moved / rates.memory / rates.step_fraction
    return OperationSeconds("optimizer", np.zeros(moved.size), moved * 1.0, seconds, _all("memory", moved))


def _communication(device: DeviceProfile, rates: Rates, sent: NDArray[np.int64]) -> OperationSeconds:
    if not np.all(sent > 0):
        raise ValueError("several data-parallel ranks need communication_bytes (planner.throughput.bytes_sent)")
    if rates.link is None:
        raise UnknownRate(device, "link between devices")
    seconds = sent / rates.link
    return OperationSeconds("communication", np.zeros(sent.size), sent * 1.0, seconds, _all("communication", sent))


def _all(bound: Bound, like: NDArray[np.int64]) -> Any:
    return np.full(like.size, bound)


def _exposed(
    sent_seconds: Floats, operations: list[OperationSeconds], micro_batches: NDArray[np.int64], zero_stage: int
) -> Floats:
    """Communication that nothing hides.

    Gradients travel while the last micro-batch's backward runs (arXiv 2006.15704, section 3.2.3), two thirds of its
    computing; ZeRO-3's gathered weights travel during all of it (FSDP's prefetching, arXiv 2304.11277, section 4.3).
    """
    computing = sum(operation.seconds for operation in operations if operation.operation != "optimizer")
    hidden = computing if zero_stage == 3 else computing * (2 / 3) / micro_batches
    return maximum(sent_seconds - hidden, 0.0)
