"""The ledger of one plan: every term at the step's peak, every moment of the run, host and disk.

`totals` gives its sums for one plan or, with arrays of sizes, for many; `build` adds the words of one.

Terms add up to the byte: allocated = the ten terms of live storages at the peak; reserved = allocated + fragmentation;
process = reserved + what lies outside the allocator.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final, NamedTuple

import numpy as np

from planner.memory.fragmentation import fragmentation_bytes, logits_hole
from planner.memory.host import disk_terms, host_terms
from planner.memory.resident import Resident, resident_at
from planner.memory.step_bytes import STEP, StepBytes, highest_of, whole
from planner.plan import Plan, Points
from planner.step.compiler import EVALUATION, compile_run
from planner.step.program import StepInstant, StepProgram, in_integers
from planner.step.sizes import Quantity, choose, maximum

TERMS: Final = (
    "weights", "adapters", "quantization_state", "gradients", "optimizer_states", "master_weights", "activations",
    "logits_and_loss", "temporaries", "communication",
)  # fmt: skip


class PeakPart(NamedTuple):
    """One group of equal storages at the peak."""

    term: str
    what: str
    formula: str
    bytes: int


@dataclass(slots=True)
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


@dataclass(slots=True)
class Ledger(Totals):
    """The sums of one plan, and what they are made of."""

    terms: dict[str, int]
    peak_moment: str
    peak_operation: str
    highest_moment: str
    parts: tuple[PeakPart, ...]


def totals(plan: Plan, points: Points) -> Totals:
    """The sums of a plan at some sizes.

    Raises:
        NotModelled: a block of the model has no step program.
        OverflowError: arrays of which some plan may need more than 4 PiB.
    """
    return Totals(**_sums(plan, points, StepBytes.at(compile_run(plan.spec, plan.rules), plan, points)))


def build(plan: Plan) -> Ledger:
    """The ledger of a plan.

    Raises:
        NotModelled: a block of the model has no step program.
    """
    step = StepBytes.at(compile_run(plan.spec, plan.rules), plan, plan.points)
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


def _peak_position(step: StepBytes, moment: str) -> int:
    """The first of a moment's instants that is its highest."""
    first, end = next((first, end) for name, first, end in step.program.moments if name == moment)
    return first + int(step.instants[first:end].argmax())


def _sums(plan: Plan, points: Points, step: StepBytes) -> dict[str, Any]:
    """The fields of `Totals`."""
    held = resident_at(plan, points.rank)
    moments = _moments(plan, step, held)
    allocated = highest_of([moments[name] for name in STEP if name in moments])
    fragmentation = fragmentation_bytes(plan, held, step, allocated)
    if plan.allocator == "expandable_segments" and "loss" in moments:
        fragmentation = fragmentation + maximum(0, moments["loss"] + logits_hole(plan, points) - allocated)
    if plan.zero_stage == 3:
        fragmentation = fragmentation + maximum(0, held.communication.idle - _peak_gradients(plan, step, moments, held))
    outside = plan.machine.device.context_bytes
    return {
        "moments": moments,
        "peak_allocated_bytes": allocated,
        "peak_reserved_bytes": allocated + fragmentation,
        "peak_process_bytes": allocated + fragmentation + outside,
        "required_bytes": highest_of(list(moments.values())) + fragmentation + outside,
        "host_terms": host_terms(plan, held),
        "disk_terms": disk_terms(plan, held),
        "resident": held,
        "communication_bytes": held.gradients if plan.data_parallel > 1 else 0,
        "largest_storage_bytes": maximum(whole(np.maximum.reduce(step.sizes)), held.largest_weight),
    }


def _peak_gradients(plan: Plan, step: StepBytes, moments: dict[str, Quantity], held: Resident) -> Quantity:
    """Bytes of gradients at the step's peak, the first of its highest instants."""
    program = step.program
    alive = program.counts[:, program.gradients] @ step.sizes[program.gradients]
    peak, found = highest_of([moments[name] for name in STEP if name in moments]), _kept_gradients(plan, held)
    for name, first, end in reversed([moment for moment in program.moments if moment[0] in STEP]):
        position = step.instants[first:end].argmax(axis=0)
        there = np.take_along_axis(alive[first:end], position[None], axis=0)[0]
        found = choose(moments[name] == peak, whole(there), found)
    return found


def _moments(plan: Plan, step: StepBytes, held: Resident) -> dict[str, Quantity]:
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
