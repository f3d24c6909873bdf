"""What the allocator holds beyond the live storages: highest reserved minus peak allocated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from planner.memory import processor
from planner.memory.resident import Resident
from planner.memory.step_bytes import StepBytes, whole
from planner.plan import Plan, Points
from planner.step.rules import BYTES
from planner.step.sizes import Quantity, maximum

NATIVE_FRAGMENTATION_PRIOR: Final = 0.07
"""Reserved over allocated minus one: the low end of the 1.07 to 1.49 measured on T4 runs by fitcheck (33 rows); the
interval's upper factor stands for the rest until the allocator replay of the verified tier replaces this prior."""


def fragmentation_bytes(plan: Plan, held: Resident, step: StepBytes, allocated: Quantity) -> Quantity:
    """Highest reserved minus peak allocated.

    On the CPU what the C library's allocator keeps (planner/memory/processor.py). The native CUDA allocator by the
    measured prior; expandable segments map whole 2 MiB pages, on average half a page
    for each of a few hundred live large blocks, here 1/64 of allocated (c10/cuda/CUDACachingAllocator.cpp), beside the
    hole that the logits leave (`logits_hole`); other allocators as the native one until measured.
    """
    if plan.rules.on_processor:
        return maximum(0, _resident_peak(plan, held, step) - allocated)
    if plan.allocator == "expandable_segments":
        return allocated // 64
    return whole(allocated * NATIVE_FRAGMENTATION_PRIOR)


def logits_hole(plan: Plan, points: Points) -> Quantity:
    """Bytes of the 16-bit logits, whose place nothing can take: all that is made after their cast is twice as large.

    An expandable segment keeps the hole and maps pages behind it (c10/cuda/CUDACachingAllocator.cpp). The replay of a
    16-layer Llama's full step holds 2.1 bytes a logit beyond its peak, and torchtitan's published runs some 2.5.
    """
    rules, head = plan.rules, plan.spec.lm_head
    casts = rules.loss == "full_logits" and rules.objective == "causal_lm" and rules.compute_width < BYTES["float32"]
    if head is None or not casts or rules.on_processor:
        return 0
    return points.batch * points.sequence * (head.outputs * rules.compute_width)


def _resident_peak(plan: Plan, held: Resident, step: StepBytes) -> Quantity:
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


def _working_set(step: StepBytes) -> Quantity:
    """Heap bytes of a checkpointed layer's forward pass, without what its checkpoint keeps."""
    sizes = processor.in_heap(step.sizes)
    sizes[step.program.checkpoints] = 0
    return step.program.highest_bytes(step.program.instant_bytes(sizes)).get("forward", 0)
