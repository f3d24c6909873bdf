"""On a CPU: what stays resident beyond the live tensors, because the C library's allocator keeps it.

glibc (malloc/malloc.c) maps a block above 32 MiB on its own (DEFAULT_MMAP_THRESHOLD_MAX, which its moving threshold
soon reaches) and gives it back when it is freed. Smaller blocks lie in the heap, which only shrinks from its top.
PyTorch asks for blocks aligned to 64 bytes (c10/core/impl/alloc_cpu.cpp, posix_memalign); small objects take the ends
that alignment leaves over, so that the hole of a freed block is too short for the next block of the same size (glibc
bug 30723, commit 542b1105; releases that have it, and MALLOC_MMAP_THRESHOLD_=1048576, keep less). So the highest mapped
and the highest heap bytes add up although they fall on different instants, and the heap has holes. docs/accuracy.md
holds the 44 steps that the figures below were taken from.
"""

from __future__ import annotations

from typing import Final

from planner.step.sizes import Quantity, choose, maximum
from planner.units import MIB

LARGEST_HEAP_BLOCK: Final = 32 * MIB
FIRST_USE_BYTES: Final = 40 * MIB
"""Code and thread stacks that the first steps touch after the imports (16 to 32 MiB in five processes: resident size
less the allocator's own account, mallinfo2), and about 15 MiB of Python objects."""
HOLES: Final = (1, 3)
"""Holes over the heap's highest live bytes, without checkpoints: median 0.36 of 23 steps, 80 % from 0.18 to 0.68."""
HOLES_WITH_ADAPTERS: Final = (3, 5)
"""The same of 10 steps with LoRA, which frees three results for each that it keeps: median 0.55, 80 % 0.42 to 0.87."""


def resident_peak_bytes(
    standing_bytes: Quantity, mapped_bytes: Quantity, heap_bytes: Quantity, holes_bytes: Quantity
) -> Quantity:
    """Resident bytes above the imports: what stands through the step, highest mapped and highest heap, holes."""
    return standing_bytes + mapped_bytes + heap_bytes + holes_bytes + FIRST_USE_BYTES


def in_heap(size_bytes: Quantity) -> Quantity:
    """The bytes of a storage if it lies in the heap, else 0."""
    return choose(size_bytes <= LARGEST_HEAP_BLOCK, size_bytes, 0)


def mapped(size_bytes: Quantity) -> Quantity:
    """The bytes of a storage if it is mapped on its own, else 0."""
    return choose(size_bytes <= LARGEST_HEAP_BLOCK, 0, size_bytes)


def holes_without_checkpoints(heap_peak_bytes: Quantity, *, adapters: bool) -> Quantity:
    """Holes in proportion to what the heap holds."""
    numerator, denominator = HOLES_WITH_ADAPTERS if adapters else HOLES
    return heap_peak_bytes * numerator // denominator


def holes_of_checkpoints(working_bytes: Quantity, layers: int, freed_gradient_bytes: Quantity) -> Quantity:
    """Every checkpointed layer leaves a hole of its forward working set, pinned by the tensor that it keeps.

    The heap of the last step's gradients is filled first. On 11 steps the resident size so predicted was 0.80 to 1.24
    of the measured one, median 0.99; the rule was chosen on those steps, among others that fitted them worse.
    """
    return maximum(0, working_bytes * layers - freed_gradient_bytes)
