"""What detection found: plain data that prints as JSON for `trainfit doctor`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from planner.hardware.profile import DeviceKind


@dataclass(frozen=True, slots=True)
class FoundCpu:
    """A processor: `cores` are the physical ones that this process may use, of `cores_present`."""

    name: str
    vendor: str
    cores: int
    cores_present: int
    threads: int
    hertz: int | None = None
    family: int | None = None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FoundMemory:
    """Host memory: `total_bytes` and `available_bytes` already respect `limit_bytes`, a container's limit."""

    total_bytes: int
    available_bytes: int
    installed_bytes: int
    limit_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundDevice:
    """An accelerator as its driver names it. `reserved_bytes` is what the driver keeps for itself, where it says so.

    `index` is its number as the vendor's own variable counts it (CUDA_VISIBLE_DEVICES in PCI order,
    HIP_VISIBLE_DEVICES, ZE_AFFINITY_MASK), `address` the PCI address that Linux gives it.
    """

    vendor: str
    kind: DeviceKind
    name: str
    driver: str | None = None
    uuid: str | None = None
    address: str | None = None
    index: int = 0
    pci_id: str | None = None
    architecture: str | None = None
    memory_total_bytes: int | None = None
    reserved_bytes: int | None = None
    used_bytes: int | None = None
    shared_limit_bytes: int | None = None
    tiles: int = 1


@dataclass(frozen=True, slots=True)
class Probe:
    """One look at the system: the devices it found, or why it found none."""

    devices: tuple[FoundDevice, ...] = ()
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectedMachine:
    """Everything that was found, and for what was not, the reason by probe."""

    system: str
    cpu: FoundCpu | None = None
    memory: FoundMemory | None = None
    disk_free_bytes: int | None = None
    macos_major: int | None = None
    devices: tuple[FoundDevice, ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict[str, str])

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
