"""A step's work as a table of numbers: one row for each kernel, so that a roofline is a few array operations.

Rows hold polynomials in batch, sequence and rank as coefficients over a shared list of monomials; evaluating them for
one plan or for a million is the same matrix product.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from planner.architecture.spec import ModelSpec, layer_modules
from planner.step.program import StepProgram
from planner.step.rules import BYTES, StepRules
from planner.step.sizes import Monomial, Size, constant
from planner.step.tape import NOTHING, Work
from planner.throughput.monomials import CompiledStep

Floats = NDArray[np.float64]
CLASSES = ("matmul", "attention", "elementwise", "loss", "recurrence")
ROPE_KERNELS = 5
"""rotate_half and two products and a sum: mul, neg, cat, mul, add (transformers apply_rotary_pos_emb)."""
PACKED_BYTES = {"nf4": 0.5, "int8": 1.0}


@dataclass(frozen=True, slots=True)
class Kernel:
    """What one row stands for: FLOPs and bytes of one run, the class, the dtype and kind of its rate, launches."""

    flops: Size
    bytes: Size
    operation: str
    kind: str
    dtype: str
    launches: int


@dataclass(frozen=True, eq=False, slots=True)
class WorkTable:
    """A micro-batch's work.

    `work` holds coefficients, one column a monomial: the FLOPs of one run of each kernel, their bytes, then of all
    runs together the FLOPs by class, the bytes by class and the model's FLOPs. `times` and `launches` [kernels, 1] say
    how often each kernel runs and launches, `members` [classes, kernels] of which class it is; `dtypes` are those
    that the run computes in.
    """

    monomials: tuple[Monomial, ...]
    variables: frozenset[str]
    work: Floats
    times: Floats
    launches: Floats
    members: Floats
    kinds: tuple[tuple[str, str], ...]
    dtypes: frozenset[str]


def work_table(program: StepProgram, rules: StepRules, spec: ModelSpec) -> WorkTable:
    """The table of a compiled step."""
    return _table(CompiledStep(program, rules, spec))


@lru_cache(maxsize=512)
def _table(compiled: CompiledStep) -> WorkTable:
    program = compiled.program
    rows: Counter[Kernel] = Counter()
    for kernel, times in _kernels(program, compiled.rules, compiled.spec):
        rows[kernel] += times
    model_flops = NOTHING
    for work, count, _ in program.work:
        model_flops = model_flops + (work.flops + work.model_backward_flops) * count
    sizes = [size for kernel in rows for size in (kernel.flops, kernel.bytes)] + [model_flops]
    monomials = tuple(sorted({monomial for size in sizes for monomial, _ in size.terms}))
    flops = _coefficients([kernel.flops for kernel in rows], monomials)
    moved = _coefficients([kernel.bytes for kernel in rows], monomials)
    times = np.array([float(times) for times in rows.values()])[:, None]
    members = np.array([[float(kernel.operation == name) for kernel in rows] for name in CLASSES])
    by_class = (members @ (times * flops), members @ (times * moved))
    return WorkTable(
        monomials=monomials,
        variables=frozenset(variable for size in sizes for variable in size.variables),
        work=np.concatenate((flops, moved, *by_class, _coefficients([model_flops], monomials))),
        times=times,
        launches=np.array([float(kernel.launches) for kernel in rows])[:, None],
        members=members,
        kinds=tuple((kernel.kind, kernel.dtype) for kernel in rows),
        dtypes=frozenset(kernel.dtype for kernel in rows) | {compiled.rules.compute_dtype},
    )


def _coefficients(sizes: list[Size], monomials: tuple[Monomial, ...]) -> Floats:
    index = {monomial: column for column, monomial in enumerate(monomials)}
    result = np.zeros((len(sizes), len(monomials)))
    for row, size in enumerate(sizes):
        for monomial, coefficient in size.terms:
            result[row, index[monomial]] = coefficient
    return result


def _kernels(program: StepProgram, rules: StepRules, spec: ModelSpec) -> Iterator[tuple[Kernel, int]]:
    """Each kernel of a micro-batch with how often it runs: forward, recomputed forward, backward."""
    full_scores = any(_is_scores(work) for work, _, _ in program.work)
    quantised = quantised_names(spec, rules)
    for work, count, passes in program.work:
        forward, backward = _roofline_rows(work, rules, full_scores=full_scores)
        runs = _forward_passes(work, passes, rules, full_scores=full_scores)
        yield forward, count * runs
        if backward.flops.terms or backward.bytes.terms:
            yield backward, count
        prepared = prepared_bytes(work, rules, quantised=work.name in quantised)
        if prepared:
            used = runs + int(bool(work.backward_flops.terms))
            yield Kernel(NOTHING, constant(prepared), "elementwise", "matmul", rules.compute_dtype, 1), count * used


def _roofline_rows(work: Work, rules: StepRules, *, full_scores: bool) -> tuple[Kernel, Kernel]:
    """The forward and the backward kernel. Without a fused kernel, attention computes the masked half as well."""
    attention = work.kind == "attention"
    scale = 2 if attention and full_scores else 1
    kind = "fused attention" if attention and not full_scores else "matmul"
    dtype = "float32" if attention and rules.kernel == "math" else dtype_of(work.width, rules)
    launches = ROPE_KERNELS if work.name == "rope" else 1
    products = 2 if work.kind == "matmul" and work.backward_flops.terms == (work.flops * 2).terms else launches
    return (
        Kernel(work.flops * scale, work.bytes, work.kind, kind, dtype, launches),
        Kernel(work.backward_flops * scale, work.backward_bytes, work.kind, kind, dtype, products),
    )


def dtype_of(width: int, rules: StepRules) -> str:
    """The dtype of this many bytes among those of the run, the compute dtype first."""
    for dtype in (rules.compute_dtype, rules.weights_dtype, rules.adapter_dtype):
        if BYTES[dtype] == width:
            return dtype
    return "float32"


def _forward_passes(work: Work, passes: int, rules: StepRules, *, full_scores: bool) -> int:
    """How often a micro-batch runs the forward kernel: once more where checkpointing recomputes it.

    Selective by operation keeps the results of products and attention (torchtitan); selective attention recomputes the
    score matrix only (arXiv 2205.05198, section 5), which a fused kernel does not have.
    """
    if rules.checkpointing == "selective_attention":
        scores = work.kind == "attention" or _is_scores(work)
        return 2 if full_scores and scores else passes
    kept = work.kind in {"matmul", "attention"} and "r" not in work.flops.variables
    return 1 if kept and rules.checkpointing == "selective_op" else passes


def _is_scores(work: Work) -> bool:
    """Whether an elementwise operation moves a score matrix, which grows with the square of the length."""
    return work.kind == "elementwise" and any(monomial.count("s") > 1 for monomial, _ in work.bytes.terms)


def quantised_names(spec: ModelSpec, rules: StepRules) -> frozenset[str]:
    """Names of the modules whose weights are stored packed."""
    modules = (module for stack in spec.stacks for run in stack.runs for module in layer_modules(run.layer))
    return frozenset(module.name for module in modules if rules.quantises(module))


def prepared_bytes(work: Work, rules: StepRules, *, quantised: bool) -> int:
    """Bytes moved to make a weight ready for a product: unpacked from 4 or 8 bit, or cast by autocast.

    The packed weight is read and the weight in the compute dtype written, in each pass that uses it; the product's own
    reading is in `Work.bytes`, whose constant part is the weight (bitsandbytes autograd/_functions.py MatMul4Bit,
    MatMul8bitLt; torch aten/src/ATen/autocast_mode.cpp cached_cast). Adapters have no constant part.
    """
    if work.kind != "matmul":
        return 0
    elements = dict(work.bytes.terms).get((), 0) // work.width
    if quantised and rules.scheme is not None:
        return round(elements * (PACKED_BYTES[rules.scheme] + rules.compute_width))
    return elements * (rules.weights_width + rules.compute_width) if rules.autocast else 0
