"""The ledger of one plan: every term at the step's peak, every moment of the run, host and disk.

`totals` gives its sums for one plan or, with arrays of sizes, for many; `build` adds the words of one.

Terms add up to the byte: allocated = the ten terms of live storages at the peak; reserved = allocated + fragmentation;
process = reserved + what lies outside the allocator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import lru_cache, reduce
from operator import attrgetter
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from planner.architecture.count import by_component, checkpoint_total
from planner.architecture.spec import ModelSpec
from planner.memory import processor
from planner.memory.optimizer import OptimizerChoice, host_state_bytes, state_bytes, step_temporary_bytes, traffic_bytes
from planner.memory.sharding import Communication, Sharding, communication
from planner.memory.tensors import Tensors, adapters, base_modules, trained
from planner.memory.weights import adapter_bytes, base_weight_bytes, quantization_state_bytes, sum_rounded
from planner.plan import Plan, Points
from planner.step.compiler import EVALUATION, compile_run
from planner.step.program import StepInstant, StepProgram, in_integers
from planner.step.rules import BYTES, StepRules
from planner.step.sizes import Quantity, ceiling_division, choose, maximum
from planner.units import MIB

TERMS: Final = (
    "weights", "adapters", "quantization_state", "gradients", "optimizer_states", "master_weights", "activations",
    "logits_and_loss", "temporaries", "communication",
)  # fmt: skip

NATIVE_FRAGMENTATION_PRIOR: Final = 0.07
"""Reserved over allocated minus one: the low end of the 1.07 to 1.49 measured on T4 runs by fitcheck (33 rows); the
interval's upper factor stands for the rest until the allocator replay of the verified tier replaces this prior."""
PYTHON_PROCESS_BYTES: Final = 240 * MIB
"""Resident size after importing torch and transformers, CPU build; own measurement."""
SAVED_CHECKPOINTS: Final = 1


STEP: Final = ("forward", "loss", "backward", "optimizer_step")
"""The moments of a step."""


@dataclass(frozen=True, slots=True)
class Resident:
    """What lives in the device through the whole run, and what the optimizer step adds.

    Arrays where the ranks are. `gradient_heap` and `gradient_mapped` are the gradients that outlive backward, as a
    CPU's allocator places them.
    """

    weights: Quantity
    adapters: Quantity
    quantization_state: Quantity
    optimizer_states: Quantity
    master_weights: Quantity
    gradients: Quantity
    gradient_heap: Quantity
    gradient_mapped: Quantity
    communication: Communication
    optimizer_temporaries: Quantity
    host_optimizer_states: Quantity
    load_temporaries: Quantity
    largest_weight: Quantity
    optimizer_traffic: Quantity
    trainable_parameters: Quantity

    @property
    def standing(self) -> Quantity:
        """Bytes that are there in every moment of the steady step."""
        return self.weights + self.adapters + self.quantization_state + self.optimizer_states + self.master_weights


class PeakPart(NamedTuple):
    """One group of equal storages at the peak."""

    term: str
    what: str
    formula: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Totals:
    """The sums, in bytes, of one plan or of many. All device figures are per logical device."""

    moments: dict[str, Quantity]
    peak_allocated_bytes: Quantity
    peak_reserved_bytes: Quantity
    peak_process_bytes: Quantity
    required_bytes: Quantity
    host_terms: dict[str, Quantity]
    disk_terms: dict[str, Quantity]
    resident: Resident
    communication_bytes: Quantity
    largest_storage_bytes: Quantity


@dataclass(frozen=True, slots=True)
class Ledger(Totals):
    """The sums of one plan, and what they are made of."""

    terms: dict[str, int]
    peak_moment: str
    peak_operation: str
    highest_moment: str
    parts: tuple[PeakPart, ...]


def optimizer_choice(plan: Plan) -> OptimizerChoice:
    """The plan's optimizer with the rules that its framework adds."""
    return OptimizerChoice(
        name=plan.optimizer,
        implementation=plan.optimizer_impl,
        state_dtype=plan.optimizer_state_dtype,
        embeddings_in_32_bit=plan.rules.framework in {"transformers", "trl"},
        step_on_device=plan.optimizer_impl == "fused" and plan.optimizer in {"adamw", "muon"},
        rounding=plan.machine.device.allocation_rounding_bytes,
        one_pool=plan.machine.shared_with_host,
    )


def _resident(plan: Plan, rank: Quantity) -> Resident:
    """`resident` of a plan at a rank, or at each of an array of ranks."""
    sharding = Sharding(plan.zero_stage, plan.data_parallel)
    rules, choice = plan.rules.standing, optimizer_choice(plan)
    if np.ndim(rank) == 0:
        return resident(plan.spec, rules, rank, choice, sharding, plan.double_quant, plan.master_weights)
    ranks, positions = np.unique(rank, return_inverse=True)
    each = [
        resident(plan.spec, rules, int(one), choice, sharding, plan.double_quant, plan.master_weights) for one in ranks
    ]
    return _taken(each, positions)


def _taken(each: list[Any], positions: NDArray[Any]) -> Any:
    """Records of equal kind as one record of arrays: element i is from `each[positions[i]]`."""
    found: dict[str, Quantity] = {}
    for field in fields(each[0]):
        values = [getattr(one, field.name) for one in each]
        if isinstance(values[0], Communication):
            found[field.name] = _taken(values, positions)
        else:
            found[field.name] = values[0] if len(set(values)) == 1 else np.array(values)[positions]
    return replace(each[0], **found)


@lru_cache(maxsize=4096)
def resident(
    spec: ModelSpec, rules: StepRules, rank: int, choice: OptimizerChoice, sharding: Sharding,
    double_quant: bool, master: bool,
) -> Resident:  # fmt: skip
    """Bytes that do not depend on batch and sequence. `rules` are the standing ones (`StepRules.standing`)."""
    tensors, rounding = trained(spec, rules, rank), choice.rounding
    width = rules.adapter_width if rules.has_adapters else rules.stored_width
    states = state_bytes(choice, tensors, sharding.optimizer_shards)
    paged = host_state_bytes(choice, tensors, sharding.optimizer_shards)
    low_rank = list(adapters(spec, rules, rank))
    return Resident(
        weights=base_weight_bytes(spec, rules, rounding, sharding.weight_shards),
        adapters=adapter_bytes(spec, rules, rank, rounding, sharding.weight_shards),
        quantization_state=quantization_state_bytes(spec, rules, double_quant, rounding),
        optimizer_states=states - paged,
        master_weights=sum_rounded(tensors, 4, rounding, sharding.optimizer_shards) if master else 0,
        gradients=_gradient_bytes(tensors, low_rank, rules, rounding, sharding),
        gradient_heap=_gradients_where(processor.in_heap, tensors, rules),
        gradient_mapped=_gradients_where(processor.mapped, tensors, rules),
        communication=communication(spec, rules, tensors, sharding),
        optimizer_temporaries=step_temporary_bytes(choice, tensors, width, sharding.optimizer_shards),
        host_optimizer_states=paged,
        load_temporaries=_largest_source(spec, rules),
        largest_weight=_largest_weight(spec, rules),
        optimizer_traffic=traffic_bytes(choice, tensors, width, sharding.optimizer_shards),
        trainable_parameters=sum(t.elements * t.count for t in tensors),
    )


def _gradient_bytes(
    tensors: list[Tensors], low_rank: list[Tensors], rules: StepRules, rounding: int, sharding: Sharding
) -> int:
    width = rules.adapter_width if low_rank else rules.gradient_width
    return sum_rounded(tensors, width, rounding, sharding.gradient_shards)


def _gradients_where(placed: Callable[[int], int], tensors: list[Tensors], rules: StepRules) -> int:
    """Bytes of the trained tensors' gradients that are placed so; none where backward's end leaves none."""
    if rules.optimizer_in_backward:
        return 0
    width = rules.adapter_width if rules.has_adapters else rules.gradient_width
    return sum(placed(tensor.elements * width) * tensor.count for tensor in tensors)


def _largest_source(spec: ModelSpec, rules: StepRules) -> int:
    """Loading quantises one weight after another on the device: the largest in 16 bit is there beside its packed form.

    Source: transformers/integrations/bitsandbytes.py (quantisation on the device, a parameter at a time).
    """
    sizes = [m.weight_elements * rules.weights_width for m, _ in base_modules(spec, rules) if rules.quantises(m)]
    return max(sizes, default=0)


def _largest_weight(spec: ModelSpec, rules: StepRules) -> int:
    """Bytes of the largest weight that is not quantised: one storage, as fused experts are."""
    sizes = [m.weight_elements * rules.weights_width for m, _ in base_modules(spec, rules) if not rules.quantises(m)]
    return max(sizes, default=0)


@dataclass(frozen=True, slots=True)
class _Step:
    """A step's bytes at some sizes: of each storage class [K], and alive at each instant [I]; or [K, N] and [I, N]."""

    program: StepProgram
    sizes: NDArray[Any]
    instants: NDArray[Any]

    @classmethod
    def at(cls, program: StepProgram, plan: Plan, points: Points) -> _Step:
        rounding = plan.machine.device.allocation_rounding_bytes
        sizes = program.storage_bytes(points.batch, points.sequence, points.rank, rounding)
        shards = Sharding(plan.zero_stage, plan.data_parallel).gradient_shards
        if shards > 1:
            split = ceiling_division(sizes[program.gradients], shards)
            sizes[program.gradients] = ceiling_division(split, rounding) * rounding
        return cls(program, sizes, program.instant_bytes(sizes))

    def highest(self, sizes: NDArray[Any]) -> Quantity:
        """The most bytes of any instant of the step when the storage classes have these sizes."""
        moments = self.program.highest_bytes(self.program.instant_bytes(sizes))
        return _highest([alive for name, alive in moments.items() if name in STEP])


def _whole(values: Any) -> Quantity:
    """A number or an array of whole numbers, as Python's integer or as int64."""
    return np.asarray(values, dtype=np.int64) if np.ndim(values) else int(values)


def totals(plan: Plan, points: Points) -> Totals:
    """The sums of a plan at some sizes.

    Raises:
        NotModelled: a block of the model has no step program.
        OverflowError: arrays of which some plan may need more than 4 PiB.
    """
    return Totals(**_sums(plan, points, _Step.at(compile_run(plan.spec, plan.rules), plan, points)))


def build(plan: Plan) -> Ledger:
    """The ledger of a plan.

    Raises:
        NotModelled: a block of the model has no step program.
    """
    step = _Step.at(compile_run(plan.spec, plan.rules), plan, plan.points)
    sums = _sums(plan, plan.points, step)
    moments, held = sums["moments"], sums["resident"]
    played = {name for name, _, _ in step.program.moments} | {"optimizer_step"}
    peak_moment = max((name for name in STEP if name in played), key=moments.__getitem__)
    if peak_moment == "optimizer_step":
        terms, parts, operation = _optimizer_peak(held, _kept_gradients(plan, held)), (), plan.optimizer
    else:
        position, sizes = _peak_position(step, peak_moment), in_integers(step.sizes).tolist()
        instant = step.program.instants[position]
        terms = _instant_terms(step.program, instant, sizes, held)
        parts, operation = _instant_parts(step.program, position, sizes), instant.operation
    outside = {
        "fragmentation": sums["peak_reserved_bytes"] - sums["peak_allocated_bytes"],
        "outside_allocator": sums["peak_process_bytes"] - sums["peak_reserved_bytes"],
    }
    return Ledger(
        **sums,
        terms=terms | outside,
        peak_moment=peak_moment,
        peak_operation=operation,
        highest_moment=max(moments, key=moments.__getitem__),
        parts=parts,
    )


def _peak_position(step: _Step, moment: str) -> int:
    """The first of a moment's instants that is its highest."""
    first, end = next((first, end) for name, first, end in step.program.moments if name == moment)
    return first + int(step.instants[first:end].argmax())


def _sums(plan: Plan, points: Points, step: _Step) -> dict[str, Any]:
    """The fields of `Totals`."""
    held = _resident(plan, points.rank)
    moments = _moments(plan, step, held)
    allocated = _highest([moments[name] for name in STEP if name in moments])
    fragmentation = _fragmentation(plan, held, step, allocated)
    if plan.allocator == "expandable_segments" and "loss" in moments:
        fragmentation = fragmentation + maximum(0, moments["loss"] + _logits_hole(plan, points) - allocated)
    if plan.zero_stage == 3:
        fragmentation = fragmentation + maximum(0, held.communication.idle - _peak_gradients(plan, step, moments, held))
    outside = plan.machine.device.context_bytes
    return {
        "moments": moments,
        "peak_allocated_bytes": allocated,
        "peak_reserved_bytes": allocated + fragmentation,
        "peak_process_bytes": allocated + fragmentation + outside,
        "required_bytes": _highest(list(moments.values())) + fragmentation + outside,
        "host_terms": _host_terms(plan, held),
        "disk_terms": _disk_terms(plan, held),
        "resident": held,
        "communication_bytes": held.gradients if plan.data_parallel > 1 else 0,
        "largest_storage_bytes": maximum(_whole(np.maximum.reduce(step.sizes)), held.largest_weight),
    }


def _highest(values: list[Quantity]) -> Quantity:
    return reduce(np.maximum, values) if any(isinstance(value, np.ndarray) for value in values) else max(values)


def _peak_gradients(plan: Plan, step: _Step, moments: dict[str, Quantity], held: Resident) -> Quantity:
    """Bytes of gradients at the step's peak, the first of its highest instants."""
    program = step.program
    alive = program.counts[:, program.gradients] @ step.sizes[program.gradients]
    peak, found = _highest([moments[name] for name in STEP if name in moments]), _kept_gradients(plan, held)
    for name, first, end in reversed([moment for moment in program.moments if moment[0] in STEP]):
        position = step.instants[first:end].argmax(axis=0)
        there = np.take_along_axis(alive[first:end], position[None], axis=0)[0]
        found = choose(moments[name] == peak, _whole(there), found)
    return found


def _moments(plan: Plan, step: _Step, held: Resident) -> dict[str, Quantity]:
    """Allocated bytes of each moment of the run: load, the step's four, evaluation, save."""
    standing, gathered = held.standing, held.communication
    moments = {"load": held.weights + held.quantization_state + held.adapters + held.load_temporaries}
    for name, alive in step.program.highest_bytes(step.instants).items():
        moments[name] = standing + gathered.at(name) + alive
    kept = _kept_gradients(plan, held)
    evaluation = moments.pop(EVALUATION)
    moments.setdefault("backward", standing + kept)  # nothing below the head is trained: no instant of its own
    moments["optimizer_step"] = standing + gathered.optimizer_step + kept + held.optimizer_temporaries
    return moments | {EVALUATION: evaluation, "save": standing}


def _kept_gradients(plan: Plan, held: Resident) -> Quantity:
    return 0 if plan.optimizer_in_backward else held.gradients


def _base_terms(held: Resident, moment: str) -> dict[str, int]:
    terms: dict[str, int] = dict.fromkeys(TERMS, 0)
    terms["weights"] = held.weights
    terms["adapters"] = held.adapters
    terms["quantization_state"] = held.quantization_state
    terms["optimizer_states"] = held.optimizer_states
    terms["master_weights"] = held.master_weights
    terms["communication"] = held.communication.at(moment)
    return terms


def _optimizer_peak(held: Resident, gradients: int) -> dict[str, int]:
    terms = _base_terms(held, "optimizer_step")
    terms["gradients"] = gradients
    terms["temporaries"] = held.optimizer_temporaries
    return terms


def _instant_terms(program: StepProgram, instant: StepInstant, sizes: list[int], held: Resident) -> dict[str, int]:
    terms = _base_terms(held, instant.moment)
    for index, count in instant.live:
        terms[program.kinds[index].term] += sizes[index] * count
    return terms


def _instant_parts(program: StepProgram, position: int, sizes: list[int]) -> tuple[PeakPart, ...]:
    parts = [
        PeakPart(term, what, formula, sizes[index] * count)
        for index, count, term, what, formula in _described(program, position)
        if sizes[index]
    ]
    return tuple(sorted(parts, key=attrgetter("bytes"), reverse=True))


@lru_cache(maxsize=4096)
def _described(program: StepProgram, position: int) -> tuple[tuple[int, int, str, str, str], ...]:
    """Index, count, term, name and formula of each storage class that an instant holds."""
    kinds, formulas = program.kinds, program.formulas
    return tuple(
        (index, count, kinds[index].term, kinds[index].what, f"{count} x ({formulas[index]}) B")
        for index, count in program.instants[position].live
        if count
    )


def _fragmentation(plan: Plan, held: Resident, step: _Step, allocated: Quantity) -> Quantity:
    """Highest reserved minus peak allocated.

    On the CPU what the C library's allocator keeps (planner/memory/processor.py). The native CUDA allocator by the
    measured prior; expandable segments map whole 2 MiB pages, on average half a page
    for each of a few hundred live large blocks, here 1/64 of allocated (c10/cuda/CUDACachingAllocator.cpp), beside the
    hole that the logits leave (`_logits_hole`); other allocators as the native one until measured.
    """
    if plan.rules.on_processor:
        return maximum(0, _resident_peak(plan, held, step) - allocated)
    if plan.allocator == "expandable_segments":
        return allocated // 64
    return _whole(allocated * NATIVE_FRAGMENTATION_PRIOR)


def _logits_hole(plan: Plan, points: Points) -> Quantity:
    """Bytes of the 16-bit logits, whose place nothing can take: all that is made after their cast is twice as large.

    An expandable segment keeps the hole and maps pages behind it (c10/cuda/CUDACachingAllocator.cpp). The replay of a
    16-layer Llama's full step holds 2.1 bytes a logit beyond its peak, and torchtitan's published runs some 2.5.
    """
    rules, head = plan.rules, plan.spec.lm_head
    casts = rules.loss == "full_logits" and rules.objective == "causal_lm" and rules.compute_width < BYTES["float32"]
    if head is None or not casts or rules.on_processor:
        return 0
    return points.batch * points.sequence * (head.outputs * rules.compute_width)


def _resident_peak(plan: Plan, held: Resident, step: _Step) -> Quantity:
    """Resident bytes of the step on a CPU, above the imports."""
    rules = plan.rules
    in_heap, mapped = _optimizer_step(plan, held, processor.in_heap), _optimizer_step(plan, held, processor.mapped)
    highest_heap = maximum(step.highest(processor.in_heap(step.sizes)), in_heap)
    highest_mapped = maximum(step.highest(processor.mapped(step.sizes)), mapped)
    if rules.checkpoint_every and rules.checkpointing == "full":
        layers = -(-plan.spec.text.layer_count // rules.checkpoint_every)
        holes = processor.holes_of_checkpoints(_working_set(step), layers, held.gradient_heap)
    else:
        holes = processor.holes_without_checkpoints(highest_heap, adapters=rules.has_adapters)
    return processor.resident_peak_bytes(held.standing, highest_mapped, highest_heap, holes)


def _optimizer_step(plan: Plan, held: Resident, placed: Callable[[Quantity], Quantity]) -> Quantity:
    """What is placed so in the optimizer's step.

    The gradients, and as much again under foreach, else two temporaries of the largest parameter.
    """
    gradients = held.gradient_heap if placed is processor.in_heap else held.gradient_mapped
    if plan.optimizer_impl == "foreach":
        return 2 * gradients
    return gradients + 2 * placed(held.optimizer_temporaries // 2)


def _working_set(step: _Step) -> Quantity:
    """Heap bytes of a checkpointed layer's forward pass, without what its checkpoint keeps."""
    sizes = processor.in_heap(step.sizes)
    sizes[step.program.checkpoints] = 0
    return step.program.highest_bytes(step.program.instant_bytes(sizes)).get("forward", 0)


def _host_terms(plan: Plan, held: Resident) -> dict[str, Quantity]:
    """Host bytes of all processes of the run, one a logical device; none of its own where host and device share memory.

    The interpreter with the imported libraries, paged optimizer states (bitsandbytes keeps them in managed memory),
    and the copy of what is saved: safetensors serialises tensors in host memory (adapters alone under LoRA).
    """
    processes = plan.machine.logical_devices
    shards = Sharding(plan.zero_stage, plan.data_parallel).weight_shards
    saved = (held.adapters if plan.rules.has_adapters else held.weights) * shards
    terms = {
        "processes": 0 if plan.machine.device.kind == "cpu" else processes * PYTHON_PROCESS_BYTES,
        "optimizer_states": held.host_optimizer_states * processes,
        "saving": 0 if plan.machine.shared_with_host else saved,
    }
    return {name: size for name, size in terms.items() if isinstance(size, np.ndarray) or size}


def _disk_terms(plan: Plan, held: Resident) -> dict[str, Quantity]:
    """Disk bytes: the downloaded checkpoint in its stored dtype, and one saved checkpoint with its optimizer states."""
    sharding = Sharding(plan.zero_stage, plan.data_parallel)
    saved = (held.adapters if plan.rules.has_adapters else held.weights) * sharding.weight_shards
    on_one = held.optimizer_states + held.host_optimizer_states + held.master_weights
    states = on_one * sharding.optimizer_shards
    return {
        "downloaded_weights": _stored_bytes(plan.spec),
        "saved_checkpoint": SAVED_CHECKPOINTS * (saved + states),
    }


PACKED_BYTES: Final = {"mxfp4": (17, 32), "int4": (9, 16), "int8": (1, 1)}
"""Bytes of one stored weight as a fraction. mxfp4: 32 weights in 16 bytes and a scale of one (OCP Microscaling Formats
1.0, section 5.1). int4: 32 weights in 16 bytes and a bfloat16 scale, the smallest group that checkpoints use."""


def _stored_bytes(spec: ModelSpec) -> int:
    """Bytes of the published checkpoint. A packed one holds its experts so, else its layers; the rest has 16 bits."""
    total = checkpoint_total(spec)
    width = PACKED_BYTES.get(spec.stored_dtype or "")
    if width is None:
        return total * BYTES.get(spec.stored_dtype or "", 2)
    counts = by_component(spec)
    packed = counts.get("experts", 0) or counts.get("attention", 0) + counts.get("mlp", 0)
    return 2 * (total - packed) + ceiling_division(packed * width[0], width[1])
