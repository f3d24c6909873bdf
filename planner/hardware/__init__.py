"""Devices and machines: what they hold, how fast they are, what they can't do."""

from planner.hardware.apple import working_set_bytes
from planner.hardware.cpu import CpuFacts, cpu_device
from planner.hardware.described import bare_device, described_device
from planner.hardware.devices import (
    DevicePage,
    all_devices,
    device,
    find_devices,
    match_name,
    match_pci,
    named,
    nearest_ids,
)
from planner.hardware.errors import MachineError, UnknownDevice, UnknownMachineOffer
from planner.hardware.machine import (
    THIS_MACHINE,
    Machine,
    Rent,
    fingerprint_of,
    resolve_machine,
    system_share_bytes,
    usable_bytes,
)
from planner.hardware.profile import (
    DeviceProfile,
    Efficiency,
    HostFigures,
    Interconnect,
    Provenance,
    Supports,
    SustainedRate,
)

__all__ = [
    "THIS_MACHINE",
    "CpuFacts",
    "DevicePage",
    "DeviceProfile",
    "Efficiency",
    "HostFigures",
    "Interconnect",
    "Machine",
    "MachineError",
    "Provenance",
    "Rent",
    "Supports",
    "SustainedRate",
    "UnknownDevice",
    "UnknownMachineOffer",
    "all_devices",
    "bare_device",
    "cpu_device",
    "described_device",
    "device",
    "find_devices",
    "fingerprint_of",
    "match_name",
    "match_pci",
    "named",
    "nearest_ids",
    "resolve_machine",
    "system_share_bytes",
    "usable_bytes",
    "working_set_bytes",
]
