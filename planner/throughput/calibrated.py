"""The time of a step through a calibration's curves: every operation by its class, dtype and size, phase by phase.

seconds = sum over operations of factor x work / rate(size) + bytes made x seconds a byte + seconds an operation

where work is FLOPs for products and attention and bytes for the rest (`Calibration`). The optimizer's step is bytes
read and written over the rate at the size of each tensor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from planner.architecture.spec import ModelSpec
from planner.hardware.calibration import NARROW, Calibration
from planner.hardware.calibration import Phase as PhaseRates
from planner.step.program import StepProgram
from planner.step.rules import BYTES, StepRules
from planner.step.sizes import Monomial, Size, constant
from planner.step.tape import NOTHING, Product, Work
from planner.throughput.monomials import CompiledStep, monomial_values
from planner.throughput.table import dtype_of, prepared_bytes, quantised_names

Floats = NDArray[np.float64]
ACTIVATIONS: Final = frozenset(
    {"activations", "attention weights", "silu", "sigmoid", "tanh", "exp", "expm1", "softplus", "tanh of logits"}
)
"""Elementwise operations that compute a transcendental function of each element."""
RESULT_CLASS: Final = {"narrow_matmul": "matmul", "activation": "elementwise"}
TEMPORARIES: Final = 2
PARTS: Final = ("matmul", "narrow_matmul", "attention", "elementwise", "activation", "loss")


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of operation: its class, dtype and form, what it works on, and how often a micro-batch runs it."""

    operation: str
    dtype: str
    form: str
    phase: str
    flops: Size
    bytes: Size
    made: Size
    sides: tuple[Size, Size, Size] | None
    groups: int


@dataclass(frozen=True, eq=False, slots=True)
class StepRows:
    """A micro-batch's operations as numbers over monomials: FLOPs, bytes, bytes made and sides, [rows, monomials].

    `sides` are NaN-free only where `has_sides`; `times` [rows, 1] says how often each row runs.
    """

    rows: tuple[Row, ...]
    monomials: tuple[Monomial, ...]
    variables: frozenset[str]
    flops: Floats
    bytes: Floats
    made: Floats
    sides: tuple[Floats, Floats, Floats]
    has_sides: NDArray[np.bool_]
    times: Floats
    groups: Floats


def step_rows(program: StepProgram, rules: StepRules, spec: ModelSpec) -> StepRows:
    """The rows of a compiled step."""
    return _step_rows(CompiledStep(program, rules, spec))


@lru_cache(maxsize=256)
def _step_rows(compiled: CompiledStep) -> StepRows:
    counts: dict[Row, int] = {}
    for row, times in _rows(compiled.program, compiled.rules, compiled.spec):
        counts[row] = counts.get(row, 0) + times
    rows = tuple(counts)
    sided = [row.sides or (constant(1),) * 3 for row in rows]
    sizes = [size for row in rows for size in (row.flops, row.bytes, row.made)]
    sizes += [side for sides in sided for side in sides]
    monomials = tuple(sorted({monomial for size in sizes for monomial, _ in size.terms}))
    first, second, third = (_coefficients([sides[i] for sides in sided], monomials) for i in range(3))
    return StepRows(
        rows=rows,
        monomials=monomials,
        variables=frozenset(variable for size in sizes for variable in size.variables),
        flops=_coefficients([row.flops for row in rows], monomials),
        bytes=_coefficients([row.bytes for row in rows], monomials),
        made=_coefficients([row.made for row in rows], monomials),
        sides=(first, second, third),
        has_sides=np.array([row.sides is not None for row in rows]),
        times=np.array([[float(times)] for times in counts.values()]),
        groups=np.array([[float(row.groups)] for row in rows]),
    )


def _coefficients(sizes: Sequence[Size], monomials: tuple[Monomial, ...]) -> Floats:
    index = {monomial: column for column, monomial in enumerate(monomials)}
    result = np.zeros((len(sizes), len(monomials)))
    for row, size in enumerate(sizes):
        for monomial, coefficient in size.terms:
            result[row, index[monomial]] = coefficient
    return result


def _rows(program: StepProgram, rules: StepRules, spec: ModelSpec) -> Iterator[tuple[Row, int]]:
    """Every operation of a micro-batch; what checkpointing recomputes runs in backward."""
    quantised = quantised_names(spec, rules)
    for work, count, passes in program.work:
        dtype = dtype_of(work.width, rules)
        for row in _forward_rows(work, dtype, "forward"):
            yield row, count
        if passes > 1 and not _is_kept(work, rules):
            for row in _forward_rows(work, dtype, "backward"):
                yield row, count
        for row in _backward_rows(work, dtype):
            yield row, count
        yield from _prepared_rows(work, count, passes, rules, quantised=work.name in quantised)


def _prepared_rows(
    work: Work, count: int, passes: int, rules: StepRules, *, quantised: bool
) -> Iterator[tuple[Row, int]]:
    """Weights that are unpacked or cast for a product, once for each pass that uses them."""
    moved = prepared_bytes(work, rules, quantised=quantised)
    if moved:
        size, dtype = constant(moved), rules.compute_dtype
        yield Row("elementwise", dtype, "forward", "forward", NOTHING, size, NOTHING, None, 1), count
        used = passes - 1 + int(bool(work.backward_flops.terms))
        if used:
            yield Row("elementwise", dtype, "forward", "backward", NOTHING, size, NOTHING, None, 1), count * used


def _is_kept(work: Work, rules: StepRules) -> bool:
    """Whether selective checkpointing by operation keeps the result instead of computing it again."""
    kept = work.kind in {"matmul", "attention"} and "r" not in work.flops.variables
    return rules.checkpointing == "selective_op" and kept


def _forward_rows(work: Work, dtype: str, phase: str) -> Iterator[Row]:
    sides, groups = None, 1
    if work.product is not None:
        sides, groups = (work.product.rows, work.product.inner, work.product.outer), work.product.groups
    yield Row(_class(work), dtype, "forward", phase, work.flops, work.bytes, work.made, sides, groups)


def _backward_rows(work: Work, dtype: str) -> Iterator[Row]:
    """Backward of one operation: a product has one for each gradient that is wanted; nothing where none is."""
    product = work.product
    if product is not None:
        yield from _gradient_products(work, product, dtype)
    elif work.backward_flops.terms or work.backward_made.terms:
        made, moved = work.backward_made, work.backward_bytes
        yield Row(_class(work), dtype, "backward", "backward", work.backward_flops, moved, made, None, 1)


def _gradient_products(work: Work, product: Product, dtype: str) -> Iterator[Row]:
    sides, width = (product.rows, product.inner, product.outer), work.width
    if product.input_gradient:
        made = product.rows * product.inner * width
        yield Row("matmul", dtype, "input_gradient", "backward", work.flops, work.bytes, made, sides, product.groups)
    if product.weight_gradient:
        made = product.inner * product.outer * (width * product.groups)
        yield Row("matmul", dtype, "weight_gradient", "backward", work.flops, work.bytes, made, sides, product.groups)


def _class(work: Work) -> str:
    if work.kind == "recurrence":
        return "elementwise"
    if work.kind == "elementwise" and work.name in ACTIVATIONS:
        return "activation"
    return work.kind


# -- evaluation -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PhaseParts:
    """A micro-batch's forward or backward by its curves alone: seconds by class, operations, bytes made. [plans].

    `group_products` are the products of grouped operations: one for each expert; `largest_bytes` is the largest block
    that a product makes (other operations make several at once).
    """

    seconds: Mapping[str, Floats]
    operations: float
    group_products: float
    mapped_bytes: Floats
    heap_bytes: Floats
    largest_bytes: Floats


def phase_parts(
    rows: StepRows, calibration: Calibration, batch: Any, sequence: Any, rank: Any
) -> dict[str, PhaseParts]:
    """What each phase is made of, before the factors of real steps."""
    values = monomial_values(rows.monomials, rows.variables, batch, sequence, rank)
    flops, moved, made = rows.flops @ values, rows.bytes @ values, rows.made @ values
    smallest = np.minimum.reduce([rows.sides[0] @ values / rows.groups, rows.sides[1] @ values, rows.sides[2] @ values])
    seconds = np.empty_like(flops)
    narrow = (smallest <= NARROW) & rows.has_sides[:, None]
    for index, row in enumerate(rows.rows):
        seconds[index] = _seconds(row, calibration, flops[index], moved[index], narrow[index])
    seconds *= rows.times
    is_mapped = made >= calibration.mapped_from_bytes
    return {
        phase: _parts(rows, np.array([row.phase == phase for row in rows.rows]), seconds, narrow, made, is_mapped)
        for phase in ("forward", "backward")
    }


def _seconds(row: Row, calibration: Calibration, flops: Floats, moved: Floats, narrow: NDArray[np.bool_]) -> Floats:
    """One operation by its curve. Equal products of a group take as long as one of them, as many times."""
    if row.operation == "matmul":
        each = flops / row.groups
        wide = each / calibration.curve("matmul", row.dtype, row.form).rate(each)
        if not narrow.any():
            return wide * row.groups
        slim = each / calibration.curve("narrow_matmul", row.dtype, row.form).rate(each)
        return (slim * narrow + wide * ~narrow) * row.groups
    if row.operation == "attention":
        return flops / calibration.curve("attention", row.dtype, row.form).rate(flops)
    return moved / calibration.curve(row.operation, row.dtype, row.form).rate(moved)


def _parts(
    rows: StepRows,
    chosen: NDArray[np.bool_],
    seconds: Floats,
    narrow: NDArray[np.bool_],
    made: Floats,
    is_mapped: NDArray[np.bool_],
) -> PhaseParts:
    by_class: dict[str, Floats] = {}
    for part in PARTS:
        name = RESULT_CLASS.get(part, part) if part == "narrow_matmul" else part
        of_class = chosen & np.array([row.operation == name for row in rows.rows])
        shares = seconds[of_class]
        if name == "matmul":
            shares = shares * (narrow[of_class] == (part == "narrow_matmul"))
        by_class[part] = shares.sum(axis=0)
    bytes_made = made[chosen] * rows.times[chosen]
    mapped = (bytes_made * is_mapped[chosen]).sum(axis=0)
    products = float((rows.times * rows.groups)[chosen & (rows.groups[:, 0] > 1)].sum())
    heap = np.asarray(bytes_made.sum(axis=0) - mapped)
    largest = made[chosen & rows.has_sides].max(axis=0, initial=0.0)
    return PhaseParts(by_class, float(rows.times[chosen].sum()), products, mapped, heap, largest)


def phase_seconds(parts: PhaseParts, rates: PhaseRates) -> dict[str, Floats]:
    """Seconds of a phase by the result's classes; what operations cost besides stands with the elementwise ones."""
    result: dict[str, Floats] = {}
    for part, seconds in parts.seconds.items():
        name = RESULT_CLASS.get(part, part)
        result[name] = result.get(name, np.zeros_like(seconds)) + rates.factors[part] * seconds
    besides = (
        parts.operations * rates.operation_seconds
        + parts.group_products * rates.group_product_seconds
        + parts.mapped_bytes * rates.mapped_seconds_per_byte
        + parts.heap_bytes * rates.heap_seconds_per_byte
    )
    result["elementwise"] = result["elementwise"] + besides
    return result


def _given_back_bytes(calibration: Calibration, sizes: Floats, counts: Floats, before: Floats) -> Floats:
    """Bytes of an update's temporaries that the system takes back and maps anew, [plans].

    glibc raises its thresholds to the largest block that was ever freed (malloc/malloc.c, `free`: that of mapping to
    its size, that of trimming to twice of it), up to 32 MiB. So the two temporaries of AdamW's denominator
    (torch/optim/adam.py, `_single_tensor_adam`) stay in the heap, unless they are as large as any block before. Page
    faults show it: 23.4 MiB a step in a model with two tables of 5.9 MiB and smaller blocks otherwise. From 32 MiB on
    the curve has it.
    """
    is_largest = (
        (sizes[:, None] >= before) & (sizes[:, None] >= sizes.max()) & (sizes[:, None] < calibration.mapped_from_bytes)
    )
    return TEMPORARIES * (is_largest * (sizes * counts)[:, None]).sum(axis=0)


def optimizer_seconds(
    calibration: Calibration,
    tensors: Sequence[tuple[int, int]],
    dtype: str,
    traffic_bytes: Any,
    parts: Mapping[str, PhaseParts],
) -> Any:
    """Seconds of clipping, updating and dropping gradients.

    Args:
        calibration: the device's curves.
        tensors: (elements, how many) of every trained tensor.
        dtype: of the trained tensors.
        traffic_bytes: what the optimizer reads and writes in a step, all tensors together.
        parts: the phases before, whose blocks decide which of the optimizer's are given back to the system.
    """
    total = sum(elements * count for elements, count in tensors)
    if not total:
        return traffic_bytes * 0.0
    sizes = np.array([float(elements) for elements, _ in tensors])
    counts = np.array([float(count) for _, count in tensors])
    each = traffic_bytes / total
    shares = np.multiply.outer(np.ravel(each), sizes)
    seconds = (counts * shares / calibration.curve("optimizer", dtype, "forward").rate(shares)).sum(axis=1)
    seconds = seconds * calibration.optimizer_factor + counts.sum() * calibration.optimizer_tensor_seconds
    before = np.maximum.reduce([part.largest_bytes for part in parts.values()])
    seconds = seconds + _given_back_bytes(calibration, sizes * BYTES[dtype], counts, before) * (
        calibration.backward.mapped_seconds_per_byte
    )
    return seconds if isinstance(traffic_bytes, np.ndarray) else float(seconds[0])
