"""Device classes: which workers can run which jobs; and the devices of this machine, each apart, that a job gets.

A class is `cpu`, or the software stack and the catalogue's id: cuda/nvidia-rtx-4090-24gb.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from app.detect import DetectedMachine, FoundDevice
from app.detect.resolve import profile_of
from planner.hardware import DeviceProfile

CPU: Final = "cpu"
DESCRIBED: Final = "custom"
"""The id of a device whose figures a person gave."""
_STACKS: Mapping[str, str] = {"nvidia": "cuda", "amd": "rocm", "intel": "xpu", "apple": "mps"}
_MASKS: Mapping[str, tuple[str, ...]] = {
    "nvidia": ("CUDA_VISIBLE_DEVICES",),
    "amd": ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"),
    "intel": ("ZE_AFFINITY_MASK",),
}
"""What says which devices a process sees, outermost first: the second numbers what the first lets through."""
_ORDERS: Mapping[str, Mapping[str, str]] = {
    "cuda": {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"},
    "xpu": {"ZE_ENABLE_PCI_ID_DEVICE_ORDER": "1", "ZE_FLAT_DEVICE_HIERARCHY": "FLAT"},
}
"""So that the numbers mean what `FoundDevice.index` says."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One logical device of this machine. `lock` names it in every trainfit of the machine, `mask` in its variable."""

    device_class: str
    lock: str
    mask: str


def device_class(profile: DeviceProfile) -> str:
    """The class of a device. Every processor is of one class: what it is stands in the answer."""
    if profile.kind == "cpu":
        return CPU
    return f"{_STACKS.get(profile.vendor, profile.vendor)}/{profile.id}"


def has_workers(profile: DeviceProfile) -> bool:
    """Whether some worker could find this device in its machine: one that a person described is in none."""
    return profile.kind == "cpu" or (profile.vendor in _STACKS and profile.id != DESCRIBED)


def given(found: DetectedMachine, environment: Mapping[str, str]) -> DetectedMachine:
    """The machine with only the accelerators that this environment lets its processes see.

    Drivers list all of them. Numbers are read as `FoundDevice.index` counts, UUIDs by their beginning.
    """
    kept = list(found.devices)
    for vendor, variables in _MASKS.items():
        own = sorted((device for device in kept if device.vendor == vendor), key=lambda device: device.index)
        for variable in variables:
            if variable in environment:
                seen = _seen(own, environment[variable])
                kept = [device for device in kept if device.vendor != vendor or device in seen]
                own = seen
    return replace(found, devices=tuple(kept))


def _seen(devices: Sequence[FoundDevice], mask: str) -> list[FoundDevice]:
    """What a mask lets through; the first entry that names nothing ends it, as CUDA has it."""
    seen: list[FoundDevice] = []
    for entry in (part.strip() for part in mask.split(",")):
        if entry.isdecimal() and int(entry) < len(devices):
            seen.append(devices[int(entry)])
        elif entry.startswith("GPU-") and (named := [one for one in devices if (one.uuid or "").startswith(entry)]):
            seen += named
        else:
            break
    return seen


def slots_of(found: DetectedMachine) -> list[Slot]:
    """Every logical accelerator of the machine that the planner knows."""
    slots: list[Slot] = []
    for device in found.devices:
        profile = profile_of(device, found)
        if profile is not None and profile.vendor in _STACKS:
            slots += [_slot(device, device_class(profile), tile) for tile in range(device.tiles)]
    return slots


def _slot(device: FoundDevice, name: str, tile: int) -> Slot:
    identity = device.uuid or device.address or f"{device.vendor}-{device.index}"
    mask = device.uuid if device.vendor == "nvidia" and device.uuid else str(device.index + tile)
    return Slot(name, f"{identity}.{tile}" if device.tiles > 1 else identity, mask)


def counts_of(slots: Sequence[Slot], classes: Sequence[str]) -> dict[str, int]:
    """How many devices of each class one job can have."""
    counts = Counter(slot.device_class for slot in slots)
    return {name: counts.get(name, 1) for name in classes}


def visible(slots: Sequence[Slot]) -> dict[str, str]:
    """The environment of a process that sees these devices of one class and no other; without any, none at all."""
    if not slots:
        return {"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": ""}
    stack = slots[0].device_class.partition("/")[0]
    vendor = next(vendor for vendor, name in _STACKS.items() if name == stack)
    masks = _MASKS.get(vendor, ())[-1:]
    return {name: ",".join(slot.mask for slot in slots) for name in masks} | dict(_ORDERS.get(stack, {}))
