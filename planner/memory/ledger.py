"""The ledger of one plan: every term at the step's peak, every moment of the run, host and disk.

Terms add up to the byte: allocated = the ten terms of live storages at the peak; reserved = allocated + fragmentation;
process = reserved + what lies outside the allocator.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final

from numpy.typing import NDArray

from planner.architecture.count import checkpoint_total
from planner.architecture.spec import ModelSpec
from planner.memory import processor
from planner.memory.optimizer import OptimizerChoice, host_state_bytes, state_bytes, step_temporary_bytes, traffic_bytes
from planner.memory.sharding import Communication, Sharding, communication
from planner.memory.tensors import Tensors, adapters, base_modules, trained
from planner.memory.weights import adapter_bytes, base_weight_bytes, quantization_state_bytes, sum_rounded
from planner.plan import Plan
from planner.step.program import CHECKPOINT, StepInstant, StepProgram, compile_evaluation, compile_step
from planner.step.rules import BYTES, StepRules
from planner.step.sizes import ceiling_division
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


@dataclass(frozen=True, slots=True)
class Resident:
    """What lives in the device through the whole run, and what the optimizer step adds."""

    weights: int
    adapters: int
    quantization_state: int
    optimizer_states: int
    master_weights: int
    gradients: int
    communication: Communication
    optimizer_temporaries: int
    host_optimizer_states: int
    load_temporaries: int
    largest_weight: int
    optimizer_traffic: int
    trainable_parameters: int

    @property
    def standing(self) -> int:
        """Bytes that are there in every moment of the steady step."""
        return self.weights + self.adapters + self.quantization_state + self.optimizer_states + self.master_weights


@dataclass(frozen=True, slots=True)
class PeakPart:
    """One group of equal storages at the peak."""

    term: str
    what: str
    formula: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Ledger:
    """The result. All device figures are per logical device, in bytes."""

    terms: dict[str, int]
    peak_moment: str
    peak_operation: str
    moments: dict[str, int]
    peak_allocated_bytes: int
    peak_reserved_bytes: int
    peak_process_bytes: int
    required_bytes: int
    highest_moment: str
    parts: tuple[PeakPart, ...]
    host_terms: dict[str, int]
    disk_terms: dict[str, int]
    resident: Resident
    communication_bytes: int
    largest_storage_bytes: int


def optimizer_choice(plan: Plan) -> OptimizerChoice:
    """The plan's optimizer with the rules that its framework adds."""
    return OptimizerChoice(
        name=plan.optimizer,
        implementation=plan.optimizer_impl,
        state_dtype=plan.optimizer_state_dtype,
        embeddings_in_32_bit=plan.rules.framework in {"transformers", "trl"},
        step_on_device=plan.optimizer_impl == "fused" and plan.optimizer in {"adamw", "muon"},
        rounding=plan.machine.device.allocation_rounding_bytes,
    )


@lru_cache(maxsize=1024)
def resident(
    spec: ModelSpec, rules: StepRules, rank: int, choice: OptimizerChoice, sharding: Sharding,
    double_quant: bool, master: bool,
) -> Resident:  # fmt: skip
    """Bytes that do not depend on batch and sequence."""
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


def build(plan: Plan) -> Ledger:
    """The ledger of a plan.

    Raises:
        NotModelled: a block of the model has no step program.
    """
    spec, rules, choice = plan.spec, plan.rules, optimizer_choice(plan)
    sharding = Sharding(plan.zero_stage, plan.data_parallel)
    held = resident(spec, rules, plan.rank, choice, sharding, plan.double_quant, plan.master_weights)
    program = compile_step(spec, rules)
    rounded_sizes = _sizes(program, plan, sharding)
    totals: list[int] = program.instant_bytes(rounded_sizes).tolist()
    highest = {name: max(totals[first:end]) for name, first, end in program.moments}
    moments = _moments(plan, highest, held, sharding)
    sizes: list[int] = rounded_sizes.tolist()
    step = {name: moments[name] for name in ("forward", "loss", "backward", "optimizer_step") if name in moments}
    peak_moment = max(step, key=step.__getitem__)
    if peak_moment == "optimizer_step":
        terms, parts, operation = _optimizer_peak(held, _kept_gradients(plan, held)), (), plan.optimizer
    else:
        first = next(first for name, first, _ in program.moments if name == peak_moment)
        position = totals.index(highest[peak_moment], first)
        terms = _instant_terms(program, program.instants[position], sizes, held)
        parts, operation = _instant_parts(program, position, sizes), program.instants[position].operation
    beyond = _fragmentation(plan, held, program, sizes, sum(terms.values()))
    return _finish(plan, held, terms, parts, peak_moment, operation, moments, max(sizes), beyond)


def _sizes(program: StepProgram, plan: Plan, sharding: Sharding) -> NDArray[Any]:
    rounding = plan.machine.device.allocation_rounding_bytes
    sizes = program.storage_bytes(plan.micro_batch_size, plan.sequence_length, plan.rank, rounding)
    if sharding.gradient_shards > 1:
        sizes[program.gradients] = ceiling_division(sizes[program.gradients], sharding.gradient_shards)
    return sizes


def _moments(plan: Plan, step: dict[str, int], held: Resident, sharding: Sharding) -> dict[str, int]:
    """Allocated bytes of each moment of the run: load, the step's four, evaluation, save."""
    standing = held.standing
    moments = {"load": held.weights + held.quantization_state + held.adapters + held.load_temporaries}
    moments |= {name: standing + held.communication.at(name) + total for name, total in step.items()}
    kept = _kept_gradients(plan, held)
    moments["optimizer_step"] = standing + held.communication.optimizer_step + kept + held.optimizer_temporaries
    evaluation = compile_evaluation(plan.spec, plan.rules)
    moments["evaluation"] = (
        standing
        + held.communication.evaluation
        + max(evaluation.instant_bytes(_sizes(evaluation, plan, sharding)).tolist())
    )
    moments["save"] = standing
    return moments


def _kept_gradients(plan: Plan, held: Resident) -> int:
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


def _fragmentation(plan: Plan, held: Resident, program: StepProgram, sizes: list[int], allocated: int) -> int:
    """Highest reserved minus peak allocated.

    On the CPU what the C library's allocator keeps (planner/memory/processor.py). The native CUDA allocator by the
    measured prior; expandable segments map whole 2 MiB pages, on average half a page
    for each of a few hundred live large blocks, here 1/64 of allocated (c10/cuda/CUDACachingAllocator.cpp); other
    allocators as the native one until measured.
    """
    if plan.rules.on_processor:
        return max(0, _resident_peak(plan, held, program, sizes) - allocated)
    if plan.allocator == "expandable_segments":
        return allocated // 64
    return int(allocated * NATIVE_FRAGMENTATION_PRIOR)


def _resident_peak(plan: Plan, held: Resident, program: StepProgram, sizes: list[int]) -> int:
    """Resident bytes of the step on a CPU, above the imports."""
    rules = plan.rules
    alive = [[(sizes[index], count) for index, count in instant.live] for instant in program.instants]
    gradients = _gradient_storages(plan)
    alive.append([*gradients, *_optimizer_storages(plan, held, gradients)])
    if rules.checkpoint_every and rules.checkpointing == "full":
        layers = -(-plan.spec.text.layer_count // rules.checkpoint_every)
        freed = processor.heap_bytes(gradients)
        holes = processor.holes_of_checkpoints(_working_set(program, sizes), layers, freed)
    else:
        peak = processor.highest_heap_bytes(alive)
        holes = processor.holes_without_checkpoints(peak, adapters=rules.has_adapters)
    return processor.resident_peak_bytes(held.standing, alive, holes)


def _gradient_storages(plan: Plan) -> list[tuple[int, int]]:
    """The gradient of each trained tensor, where gradients outlive backward."""
    if plan.optimizer_in_backward:
        return []
    width = plan.rules.adapter_width if plan.rules.has_adapters else plan.rules.gradient_width
    return [(tensor.elements * width, tensor.count) for tensor in trained(plan.spec, plan.rules, plan.rank)]


def _optimizer_storages(plan: Plan, held: Resident, gradients: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The optimizer's temporaries: as many as gradients under foreach, else two of the largest parameter."""
    if plan.optimizer_impl == "foreach":
        return gradients
    return [(held.optimizer_temporaries // 2, 2)]


def _working_set(program: StepProgram, sizes: list[int]) -> int:
    """Heap bytes of a checkpointed layer's forward pass, without what its checkpoint keeps."""
    return processor.highest_heap_bytes(
        [(sizes[index], count) for index, count in instant.live if not program.kinds[index].what.startswith(CHECKPOINT)]
        for instant in program.instants
        if instant.moment == "forward"
    )


def _finish(
    plan: Plan, held: Resident, terms: dict[str, int], parts: tuple[PeakPart, ...], peak_moment: str, operation: str,
    moments: dict[str, int], largest: int, beyond: int,
) -> Ledger:  # fmt: skip
    allocated = sum(terms.values())
    fragmentation = beyond + max(0, held.communication.idle - terms["gradients"])
    outside = plan.machine.device.context_bytes
    highest_moment = max(moments, key=moments.__getitem__)
    extra = max(0, moments[highest_moment] - allocated)
    host = _host_terms(plan, held)
    return Ledger(
        terms=terms | {"fragmentation": fragmentation, "outside_allocator": outside},
        peak_moment=peak_moment,
        peak_operation=operation,
        moments=moments,
        peak_allocated_bytes=allocated,
        peak_reserved_bytes=allocated + fragmentation,
        peak_process_bytes=allocated + fragmentation + outside,
        required_bytes=allocated + extra + fragmentation + outside,
        highest_moment=highest_moment,
        parts=parts,
        host_terms=host,
        disk_terms=_disk_terms(plan, held),
        resident=held,
        communication_bytes=held.gradients if plan.data_parallel > 1 else 0,
        largest_storage_bytes=max(largest, held.largest_weight),
    )


def _host_terms(plan: Plan, held: Resident) -> dict[str, int]:
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
    return {name: size for name, size in terms.items() if size}


def _disk_terms(plan: Plan, held: Resident) -> dict[str, int]:
    """Disk bytes: the downloaded checkpoint in its stored dtype, and one saved checkpoint with its optimizer states."""
    stored = BYTES.get(plan.spec.stored_dtype or "", 2)
    sharding = Sharding(plan.zero_stage, plan.data_parallel)
    saved = (held.adapters if plan.rules.has_adapters else held.weights) * sharding.weight_shards
    on_one = held.optimizer_states + held.host_optimizer_states + held.master_weights
    states = on_one * sharding.optimizer_shards
    return {
        "downloaded_weights": checkpoint_total(plan.spec) * stored,
        "saved_checkpoint": SAVED_CHECKPOINTS * (saved + states),
    }
