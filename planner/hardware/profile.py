"""What the planner knows of one device: sizes, rates, and what its software can and can't do.

A profile describes one *logical device*, the thing that a framework addresses as `cuda:0`. A catalogue unit may hold
several (`logical_devices_per_unit`: an MI250 is two); memory, bandwidth, peaks and interconnect are always those of
one of them, an even share of the unit's. Only `tdp_watts` belongs to the whole unit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from planner.units import GIB

DeviceKind = Literal["gpu", "apu", "apple", "cpu", "tpu", "accelerator"]
Numeric = Literal["native", "emulated", "absent", "no_software", "unknown"]
"""`emulated` runs but far below the rate of its width; `no_software`: in silicon, no training software uses it."""
FusedAttention = Literal["yes", "no", "causal_without_mask", "experimental_switch"]
"""Whether PyTorch's SDPA has a fused backward: `no` keeps the score matrices; `causal_without_mask` keeps them as
soon as a mask is passed; `experimental_switch` needs TORCH_ROCM_AOTRITON_ENABLE_EXPERIMENTAL=1."""
Allocator = Literal["cuda", "rocm", "xpu", "mps", "cpu", "xla", "hpu", "neuron"]
MemoryBasis = Literal[
    "driver", "driver_recalled", "installed", "sibling", "specification", "detected", "given", "host_decides"
]
"""Where the total comes from: shown by the driver (`driver`; `driver_recalled` from memory), installed memory, the
figure of a sibling part, the label read as GiB (`specification`), this machine, the person, or the host's memory."""

_LABEL: Final = re.compile(r" ?\b\d+ ?GB\b")
FLOPS_PER_TERAFLOP: Final = 10**12


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a figure comes from: a short basis (measured, derived, prior, ...) and the source in words."""

    basis: str
    source: str


@dataclass(frozen=True, slots=True)
class Efficiency:
    """Measured matmul rate over the dense peak: of this device, or the median of its class.

    `fraction` may exceed 1 where a part boosts above the clock that its peak was computed from. `devices` is how many
    devices the median was taken over, 0 for a prior.
    """

    fraction: float
    basis: str
    devices: int
    source: str


@dataclass(frozen=True, slots=True)
class EmulatedRate:
    """A dtype that runs without its own units: `rate` times the sustained rate of the dtype `of`."""

    of: str
    rate: float
    source: str


@dataclass(frozen=True, slots=True)
class Interconnect:
    """The fastest link between devices: bytes per second in one direction, None where it is not published."""

    name: str
    bytes_per_second: int | None


@dataclass(frozen=True, slots=True)
class Supports:
    """What the device and its PyTorch backend can do in training.

    `max_single_allocation_bytes` is None where one allocation may take all of the memory; `fused_optimizer` is
    whether torch.optim's fused implementation runs there.
    """

    float16: Numeric
    bfloat16: Numeric
    float8: Numeric
    fused_attention_backward: FusedAttention
    flash_attention_2: bool
    fused_optimizer: bool
    max_single_allocation_bytes: int | None
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HostFigures:
    """A CPU's own figures: physical cores, base clock, and the most memory that its platform takes."""

    cores: int
    base_hertz: int
    memory_max_bytes: int | None
    memory_channels: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceProfile:
    """One kind of device of the catalogue, or one that was detected or described.

    `memory_total_bytes` is what the driver reports, None for a CPU, whose capacity is the host's.
    `system_reserved_bytes` is the part of it that no framework can take: the driver's own, ECC, or what an operating
    system keeps from the GPU (Apple's working set, an APU's carve-out and GTT). `context_bytes` is what the driver
    context and kernels take inside our own process; it is not part of the reserve. `memory_options_bytes` are the
    sizes that the device was sold with.

    `peak_flops` holds dense FLOP/s per dtype with the accumulation that PyTorch training uses (float32), which on
    GeForce is half of the advertised 16-bit rate; int8 is in operations per second.
    """

    id: str
    name: str
    aliases: tuple[str, ...] = ()
    pci_ids: tuple[str, ...] = ()
    vendor: str
    kind: DeviceKind
    product_line: str
    architecture: str
    logical_devices_per_unit: int = 1
    memory_total_bytes: int | None
    memory_basis: MemoryBasis
    memory_options_bytes: tuple[int, ...] = ()
    system_reserved_bytes: int
    memory_bandwidth_bytes_per_second: int | None
    peak_flops: Mapping[str, int]
    measured_flops: Mapping[str, int]
    matmul_efficiency: Mapping[str, Efficiency]
    emulated_rates: Mapping[str, EmulatedRate]
    interconnect: Interconnect | None = None
    tdp_watts: int | None = None
    supports: Supports
    allocator_family: Allocator
    allocation_rounding_bytes: int
    context_bytes: int
    host: HostFigures | None = None
    release_year: int | None = None
    confidence: str
    notes: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    provenance: Mapping[str, Provenance]
    missing: tuple[str, ...] = ()

    @property
    def shared_with_host(self) -> bool:
        """Whether device and host share one pool of memory (CPU, Apple, APU)."""
        return self.kind in ("cpu", "apple", "apu")

    @property
    def display_name(self) -> str:
        """The name with its memory in GiB, instead of the label on the box, which says GB and means either."""
        return _with_memory(self.name, self.memory_total_bytes)

    def sustained_flops(self, dtype: str) -> SustainedRate | None:
        """Return the matmul rate to plan with for `dtype`, in FLOP/s, or None when nothing is known of it.

        A measured rate of this device wins; else its peak times the class's efficiency; else, for a dtype without
        units of its own (bfloat16 on a T4), a measured fraction of another dtype's rate.
        """
        measured = self.measured_flops.get(dtype)
        if measured is not None:
            return SustainedRate(measured, self.provenance["measured_flops"])
        peak = self.peak_flops.get(dtype)
        efficiency = self.matmul_efficiency.get(dtype)
        if peak is not None and efficiency is not None:
            return SustainedRate(round(peak * efficiency.fraction), Provenance(efficiency.basis, efficiency.source))
        return self._emulated_flops(dtype)

    def _emulated_flops(self, dtype: str) -> SustainedRate | None:
        emulated = self.emulated_rates.get(dtype)
        base = self.sustained_flops(emulated.of) if emulated is not None and emulated.of != dtype else None
        if emulated is None or base is None:
            return None
        return SustainedRate(round(base.flops * emulated.rate), Provenance("emulated", emulated.source))


@lru_cache(maxsize=1024)
def _with_memory(name: str, memory_bytes: int | None) -> str:
    if memory_bytes is None or not _LABEL.search(name):
        return name
    return f"{_LABEL.sub('', name)} {round(memory_bytes / GIB):,} GiB"


@dataclass(frozen=True, slots=True)
class SustainedRate:
    """A matmul rate in FLOP/s that a long run can be planned with, and where it comes from."""

    flops: int
    provenance: Provenance


class SameDevice:
    """A device as a key of a cache, by identity: profiles of the catalogue are made once."""

    __slots__ = ("device",)

    def __init__(self, device: DeviceProfile) -> None:
        self.device = device

    def __hash__(self) -> int:
        return id(self.device)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SameDevice) and self.device is other.device
