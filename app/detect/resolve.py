"""From what was detected to a machine that the planner can plan with; never by part of a name."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby

from app.detect.found import DetectedMachine, FoundCpu, FoundDevice, FoundMemory
from planner.hardware import (
    CpuFacts,
    DeviceProfile,
    Machine,
    bare_device,
    cpu_device,
    match_name,
    match_pci,
    working_set_bytes,
)
from planner.hardware.apple import DEFAULT_MACOS


def to_machine(found: DetectedMachine) -> Machine | None:
    """The machine's best device, or None where not even memory could be read."""
    return next(iter(to_machines(found)), None)


def to_machines(found: DetectedMachine) -> list[Machine]:
    """Every way to train here, best first: groups of equal accelerators by memory of their own, then the processor."""
    profiled = [(profile, device) for device in found.devices if (profile := profile_of(device, found)) is not None]
    profiled.sort(key=lambda pair: _rank(*pair), reverse=True)
    groups = [list(group) for _, group in groupby(profiled, key=lambda pair: _rank(*pair))]
    machines = [_accelerated(group[0][0], [device for _, device in group], found) for group in groups]
    processor = _processor(found)
    return machines if processor is None else [*machines, processor]


def profile_of(device: FoundDevice, found: DetectedMachine) -> DeviceProfile | None:
    """The catalogue's profile of a detected device, an unknown one with its memory, or None without any memory.

    Unknown AMD or Intel graphics inside a processor is left out, because nothing says how much memory it may take; so
    is an unknown AMD card that KFD does not list, because ROCm can't use it.
    """
    size_bytes = _size(device, found)
    known = (match_pci(device.pci_id, size_bytes) if device.pci_id else None) or match_name(device.name, size_bytes)
    if known is not None or size_bytes is None or (device.vendor == "amd" and device.architecture is None):
        return known
    return bare_device(
        device_id="unknown",
        name=device.name,
        vendor=device.vendor,
        kind=device.kind,
        memory_bytes=size_bytes,
        architecture=device.architecture,
        memory_basis="detected",
    )


def _size(device: FoundDevice, found: DetectedMachine) -> int | None:
    """Memory of one logical device: its own, or for an Apple or NVIDIA device without any, the installed memory."""
    if device.kind == "gpu":
        return device.memory_total_bytes // device.tiles if device.memory_total_bytes else None
    return found.memory.installed_bytes if found.memory and device.vendor in ("apple", "nvidia") else None


def _rank(profile: DeviceProfile, device: FoundDevice) -> tuple[int, int, str, str]:
    own_memory = 0 if profile.shared_with_host else 1
    total_bytes = device.memory_total_bytes or profile.memory_total_bytes or 0
    return own_memory, total_bytes, profile.id, device.name


def _accelerated(profile: DeviceProfile, devices: list[FoundDevice], found: DetectedMachine) -> Machine:
    count = sum(device.tiles for device in devices)
    if count % profile.logical_devices_per_unit:  # half of a unit is visible: count what is there
        profile = replace(profile, logical_devices_per_unit=1)
    units = count // profile.logical_devices_per_unit
    if profile.shared_with_host and found.memory is not None:
        return _shared(profile, devices[0], found.memory, found)
    first = devices[0]
    total_bytes = (first.memory_total_bytes or 0) // first.tiles
    reserved_bytes = profile.system_reserved_bytes if first.reserved_bytes is None else first.reserved_bytes
    return Machine(
        device=profile,
        device_count=units,
        memory_total_bytes=total_bytes or profile.memory_total_bytes or 0,
        system_reserved_bytes=reserved_bytes,
        in_use_bytes=max(_in_use(device, reserved_bytes) for device in devices),
        host_memory_bytes=found.memory.total_bytes if found.memory else None,
        host_usable_bytes=found.memory.available_bytes if found.memory else None,
        disk_free_bytes=found.disk_free_bytes,
        is_this_machine=True,
    )


def _in_use(device: FoundDevice, reserved_bytes: int) -> int:
    """What other processes hold. A driver that does not name its reserve counts it as used."""
    used_bytes = (device.used_bytes or 0) // device.tiles
    return used_bytes if device.reserved_bytes is not None else max(0, used_bytes - reserved_bytes)


def _shared(profile: DeviceProfile, device: FoundDevice, memory: FoundMemory, found: DetectedMachine) -> Machine:
    """One pool. What is in use by others counts only as far as it cuts into the part that the device may take."""
    carve_out_bytes = (device.memory_total_bytes or 0) if device.vendor == "amd" else 0
    pool_bytes = memory.total_bytes + carve_out_bytes
    limit_bytes = min(_device_limit(profile, device, pool_bytes, found), pool_bytes)
    free_bytes = min(limit_bytes, max(memory.available_bytes, carve_out_bytes - (device.used_bytes or 0)))
    return Machine(
        device=profile,
        device_count=1,
        memory_total_bytes=pool_bytes,
        system_reserved_bytes=pool_bytes - limit_bytes,
        in_use_bytes=limit_bytes - free_bytes,
        host_memory_bytes=memory.total_bytes,
        host_usable_bytes=memory.available_bytes,
        disk_free_bytes=found.disk_free_bytes,
        is_this_machine=True,
        macos_major=found.macos_major,
    )


def _device_limit(profile: DeviceProfile, device: FoundDevice, pool_bytes: int, found: DetectedMachine) -> int:
    """What the device may take of the pool: a limit that the system names, Apple's rule, or the catalogue's share.

    Of an AMD APU's carve-out and GTT, ROCm allocates from the larger one, not from both.
    """
    if device.shared_limit_bytes is not None:
        return max(device.shared_limit_bytes, device.memory_total_bytes or 0)
    if profile.kind == "apple":
        return working_set_bytes(pool_bytes, found.macos_major or DEFAULT_MACOS)
    whole_bytes = profile.memory_total_bytes or pool_bytes
    return pool_bytes - profile.system_reserved_bytes * pool_bytes // whole_bytes


def _processor(found: DetectedMachine) -> Machine | None:
    if found.cpu is None or found.memory is None:
        return None
    return Machine(
        device=cpu_profile(found.cpu),
        device_count=1,
        memory_total_bytes=found.memory.total_bytes,
        system_reserved_bytes=0,
        in_use_bytes=found.memory.total_bytes - found.memory.available_bytes,
        host_memory_bytes=found.memory.total_bytes,
        host_usable_bytes=found.memory.available_bytes,
        disk_free_bytes=found.disk_free_bytes,
        is_this_machine=True,
    )


def cpu_profile(cpu: FoundCpu) -> DeviceProfile:
    """The catalogue's row where the name is exact and all its cores are ours, else one derived from what was found."""
    known = match_name(cpu.name)
    if known is not None and known.host is not None and known.host.cores == cpu.cores:
        return known
    return cpu_device(CpuFacts(cpu.name, cpu.vendor, cpu.cores, cpu.hertz, frozenset(cpu.flags), cpu.family))
