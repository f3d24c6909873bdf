"""Replays the births and deaths of a trace through a model of the allocator."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

from planner.verify.allocator.caching import SMALLEST_BLOCK_BYTES, CachingAllocator, OutOfDeviceMemory
from planner.verify.allocator.resident import ResidentMemory
from planner.verify.allocator.segments import ExpandableSegments, NativeSegments

Kind = Literal["native", "expandable_segments", "resident"]


class MemoryEvent(Protocol):
    """One birth (`bytes` > 0) or death (`bytes` < 0) of a storage; `planner.verify.timeline.Event` is one."""

    @property
    def instant(self) -> int:
        """When, in the trace's count."""
        ...

    @property
    def bytes(self) -> int:
        """How much; a death says as much as the birth."""
        ...

    @property
    def storage(self) -> int:
        """Which storage."""
        ...


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """`allocated_bytes[i]` and `reserved_bytes[i]` are what is handed out and held after the i-th event.

    `allocated` counts whole blocks, as `torch.cuda.memory_allocated` does; in the large pool a block can be up to 1 MiB
    larger than its tensor. `peak_tensor_bytes` is the highest sum of tensors, each rounded, which is the contract's
    peak_allocated_bytes. `retries` counts how often the cache was given back because the device was full.
    `out_of_memory_instant` is the instant of the birth that did not fit; the replay ends there.
    """

    allocated_bytes: list[int]
    reserved_bytes: list[int]
    peak_tensor_bytes: int
    peak_allocated_bytes: int
    peak_reserved_bytes: int
    retries: int
    out_of_memory_instant: int | None

    @property
    def fragmentation_bytes(self) -> int:
        """Highest reserved minus peak allocated (the contract's term)."""
        return self.peak_reserved_bytes - self.peak_tensor_bytes


def replay(
    events: Iterable[MemoryEvent],
    *,
    kind: Kind = "native",
    rounding_bytes: int = SMALLEST_BLOCK_BYTES,
    capacity_bytes: int | None = None,
    steady_from: int = 0,
) -> ReplayResult:
    """Sends the events, in their order, through the allocator of that kind.

    "native" and "expandable_segments" are PyTorch's CUDA allocator with and without that option; "resident" is the
    resident memory of tensors on a CPU under glibc. `capacity_bytes` is what the device can give (None: no end). The
    allocated peaks are taken from the instant `steady_from` on (a trace's `first`), so that they are those of the
    second step; reserved memory only grows unless the device is full, so its peak is taken over all events. Two steps
    are enough: in the traces that we repeated up to six times the later steps reserved nothing more.

    Raises:
        ValueError: a death without a birth, or a storage born twice.
    """
    allocator = make_allocator(kind, rounding_bytes, capacity_bytes)
    allocated: list[int] = []
    reserved: list[int] = []
    live: set[int] = set()
    tensors = peak_tensors = peak_allocated = 0
    failed: int | None = None
    for event in events:
        check(event, live)
        tensors += rounded(event.bytes, rounding_bytes)
        try:
            if event.bytes > 0:
                allocator.allocate(event.storage, event.bytes)
            else:
                allocator.free(event.storage)
        except OutOfDeviceMemory:
            failed = event.instant
            break
        allocated.append(allocator.allocated)
        reserved.append(allocator.reserved)
        if event.instant >= steady_from:
            peak_tensors = max(peak_tensors, tensors)
            peak_allocated = max(peak_allocated, allocator.allocated)
    return ReplayResult(
        allocated, reserved, peak_tensors, peak_allocated, max(reserved, default=0), allocator.retries, failed
    )


def make_allocator(kind: Kind, rounding_bytes: int, capacity_bytes: int | None) -> CachingAllocator | ResidentMemory:
    """The empty allocator of that kind."""
    if kind == "resident":
        return ResidentMemory(rounding_bytes=rounding_bytes)
    growth = NativeSegments() if kind == "native" else ExpandableSegments()
    return CachingAllocator(growth, rounding_bytes=rounding_bytes, capacity_bytes=capacity_bytes)


def rounded(size: int, rounding_bytes: int) -> int:
    """The size away from zero to a multiple, so that a death takes off what the birth added."""
    whole = -(-abs(size) // rounding_bytes) * rounding_bytes
    return whole if size > 0 else -whole


def check(event: MemoryEvent, live: set[int]) -> None:
    """Keeps count of what lives."""
    if (event.bytes > 0) == (event.storage in live):
        raise ValueError(f"storage {event.storage} at instant {event.instant}: born twice, or dead before its birth")
    live.symmetric_difference_update((event.storage,))
