"""The software and the device that a figure was taken with."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

import torch

from planner.calibration.device import Device

PACKAGES: Final = ("torch", "transformers", "peft", "accelerate", "bitsandbytes", "flash-attn", "triton")


def stack_of(device: Device) -> dict[str, Any]:
    """Versions of what runs, and how torch was built and runs here."""
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": {name: found for name in PACKAGES if (found := _version(name)) is not None},
        "cuda": torch.version.cuda,
        "rocm": torch.version.hip,
        "device": device.name,
        "threads": torch.get_num_threads(),
        "processor_capability": torch.backends.cpu.get_cpu_capability(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
