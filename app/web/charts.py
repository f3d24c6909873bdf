"""Geometry of the charts. The templates draw it as SVG with classes and attributes; no style is computed here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from planner.contract import DeviceMemory, Memory

WIDTH = 100.0
"""Charts are drawn in percent of their width, so that their texts keep their size on a phone."""

TERM_LABELS: Mapping[str, str] = {
    "weights": "Weights",
    "adapters": "Adapters",
    "quantization_state": "Quantisation state",
    "gradients": "Gradients",
    "optimizer_states": "Optimizer states",
    "master_weights": "Master weights",
    "activations": "Activations",
    "logits_and_loss": "Logits and loss",
    "temporaries": "Temporaries",
    "communication": "Communication",
    "fragmentation": "Fragmentation",
    "outside_allocator": "Outside the allocator",
    "host": "Host side of the run",
    "other_moment": "Higher moment",
}


@dataclass(frozen=True, slots=True)
class Segment:
    """One part of a stacked bar."""

    key: str
    label: str
    bytes: int
    x: float
    width: float

    @property
    def share(self) -> float:
        """Part of the chart's width."""
        return self.width / WIDTH


@dataclass(frozen=True, slots=True)
class Bar:
    """A stacked bar against a capacity."""

    segments: Sequence[Segment]
    usable_x: float
    total_x: float
    low_x: float
    high_x: float
    required_x: float
    usable_bytes: int
    total_bytes: int
    required_bytes: int
    ticks: Sequence[tuple[float, str]]


@dataclass(frozen=True, slots=True)
class MomentBar:
    """One moment of the run."""

    name: str
    bytes: int
    width: float
    limit: float
    highest: bool


def widest_bytes(memory: Memory) -> int:
    """The bytes that a memory bar has to reach."""
    device = memory.device
    stacked = sum(size for _, size in _parts(memory))
    return max(device.total_bytes, device.usable_bytes, device.interval_bytes[1], device.required_bytes, stacked, 1)


def memory_bar(memory: Memory, widest: int | None = None) -> Bar:
    """The device's peak by term against its capacity, one scale for both; `widest` gives several bars one scale."""
    device = memory.device
    parts = _parts(memory)
    low, high = device.interval_bytes
    widest = widest or widest_bytes(memory)
    scale = WIDTH / widest
    return Bar(
        segments=_stack(parts, scale),
        usable_x=device.usable_bytes * scale,
        total_x=device.total_bytes * scale,
        low_x=low * scale,
        high_x=high * scale,
        required_x=device.required_bytes * scale,
        usable_bytes=device.usable_bytes,
        total_bytes=device.total_bytes,
        required_bytes=device.required_bytes,
        ticks=ticks(widest, scale),
    )


def _parts(memory: Memory) -> list[tuple[str, int]]:
    """The terms that are there; what the highest moment needs beyond the step's peak; the host's part of one pool."""
    device = memory.device
    parts = [(name, size) for name, size in device.terms.model_dump().items() if size > 0]
    beyond = device.required_bytes - sum(size for _, size in parts)
    if beyond > 0:
        parts.append(("other_moment", beyond))
    host_bytes = sum(memory.host.terms.values())
    return [*parts, ("host", host_bytes)] if memory.host.shared_with_device and host_bytes > 0 else parts


def _stack(parts: Sequence[tuple[str, int]], scale: float) -> list[Segment]:
    segments: list[Segment] = []
    x = 0.0
    for key, size in parts:
        segments.append(Segment(key, TERM_LABELS[key], size, x, size * scale))
        x += size * scale
    return segments


def ticks(widest: int, scale: float) -> list[tuple[float, str]]:
    """At most six round marks."""
    gib = 2**30
    step_gib = next((s for s in _STEPS_GIB if widest / gib / s <= 6), _STEPS_GIB[-1])
    marks = [index * step_gib for index in range(7) if index * step_gib * gib <= widest]
    return [(mark * gib * scale, f"{mark:,g}") for mark in marks]


_STEPS_GIB: Sequence[float] = [
    base * 10**power for power in range(-3, 7) for base in (1, 2, 5)
]  # fmt: skip


def moment_bars(device: DeviceMemory) -> list[MomentBar]:
    """Every moment on one scale, the highest marked, with the limit of what the allocator can have."""
    limit_bytes = max(device.usable_bytes - device.terms.outside_allocator, 0)
    widest = max([moment.allocated_bytes for moment in device.moments] + [limit_bytes]) or 1
    return [
        MomentBar(
            moment.name,
            moment.allocated_bytes,
            moment.allocated_bytes / widest * WIDTH,
            limit_bytes / widest * WIDTH,
            moment.name == device.highest_moment,
        )
        for moment in device.moments
    ]
