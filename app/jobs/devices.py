"""Device classes: which workers can run which jobs. `cpu`, or the software stack and the catalogue's id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from planner.hardware import DeviceProfile, Machine

CPU: Final = "cpu"
DESCRIBED: Final = "custom"
"""The id of a device whose figures a person gave."""
_STACKS: Mapping[str, str] = {"nvidia": "cuda", "amd": "rocm", "intel": "xpu", "apple": "mps"}


def device_class(profile: DeviceProfile) -> str:
    """The class of a device. Every processor is of one class: what it is stands in the answer."""
    if profile.kind == "cpu":
        return CPU
    return f"{_STACKS.get(profile.vendor, profile.vendor)}/{profile.id}"


def has_workers(profile: DeviceProfile) -> bool:
    """Whether some worker could find this device in its machine: one that a person described is in none."""
    return profile.kind == "cpu" or (profile.vendor in _STACKS and profile.id != DESCRIBED)


def device_classes(machines: Sequence[Machine]) -> list[str]:
    """The classes that a machine serves, its best device first."""
    return list(dict.fromkeys(device_class(machine.device) for machine in machines))


def device_names(name: str, count: int) -> list[str]:
    """What stands for each device in its lock's name."""
    return [] if name == CPU else [f"{name}-{index}" for index in range(count)]
