"""What the events of a step say beyond its peak: reserved bytes by a replay of the allocator, and a timeline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, cast

from planner.contract import Timeline
from planner.plan import Plan
from planner.verify.allocator import Kind, replay
from planner.verify.memory_timeline import memory_timeline
from planner.verify.stream import NotExtendable, Stream

CUDA_FAMILIES: Final = frozenset({"cuda", "rocm"})
"""Families whose allocator is c10/cuda/CUDACachingAllocator.cpp; ROCm's build translates the same source."""
WHY: Final = {
    "native": "a replay of the step's {events:,} births and deaths through PyTorch's caching allocator",
    "expandable_segments": "a replay of the step's {events:,} births and deaths through PyTorch's expandable segments",
    "resident": "the estimate's rule follows measured runs; the replay of glibc sees no scratch of oneDNN",
}


@dataclass(frozen=True, slots=True)
class Replayed:
    """What the allocator holds beyond the peak; `believed` is the side that counts where they differ."""

    fragmentation_bytes: int
    believed: str
    why: str


@dataclass(frozen=True, slots=True)
class Events:
    """What came of the events; `notes` say why something is missing."""

    timeline: Timeline | None
    replayed: Replayed | None
    notes: tuple[str, ...]


def events_of(stream: Stream | NotExtendable, plan: Plan) -> Events:
    """Replays the events and draws the timeline."""
    if isinstance(stream, NotExtendable):
        said = f"no timeline and no replay of the allocator, fragmentation is the prior: {stream}"
        return Events(None, None, (said,))
    kind = allocator_of(plan)
    if kind is None:
        family = plan.machine.device.allocator_family
        return Events(memory_timeline(stream), None, (f"no replay: the {family} allocator is not modelled",))
    result = replay(
        stream.events,
        kind=kind,
        rounding_bytes=plan.machine.device.allocation_rounding_bytes,
        steady_from=stream.second_step,
    )
    believed = "estimate" if kind == "resident" else "trace"
    why = WHY[kind].format(events=len(stream.events) - stream.second_step)
    timeline = memory_timeline(stream, result.reserved_bytes)
    return Events(timeline, Replayed(result.fragmentation_bytes, believed, why), ())


def allocator_of(plan: Plan) -> Kind | None:
    """Which allocator the plan's device has; None where it is another than PyTorch's for CUDA or the C library's."""
    family = plan.machine.device.allocator_family
    if family == "cpu":
        return "resident"
    return cast("Kind", plan.allocator) if family in CUDA_FAMILIES else None
