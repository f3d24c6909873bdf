"""One device as torch addresses it: where tensors live, when work is done, and what its allocator counted."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal

import torch

ClockName = Literal["wall", "processor"]
ALLOCATORS = {"cuda": "cuda", "rocm": "cuda", "xpu": "xpu", "mps": "mps", "cpu": "cpu"}
"""The torch device type of each class of device: ROCm's builds answer to CUDA's name (torch docs, "HIP semantics")."""


class DeviceMissing(Exception):
    """The class of device that the job asks for is not there, or the installed torch can't use it."""


@dataclass(frozen=True, slots=True)
class Peak:
    """The allocator's highest bytes since the last reset: handed out, and held from the driver."""

    allocated_bytes: int
    reserved_bytes: int


class Device:
    """A device by the first word of its class ("cuda/nvidia-h100" is a CUDA device) and its index.

    `clock` is what times it. The processor's leaves out what other processes took; it tells the speed of one thread.
    """

    def __init__(self, device_class: str, index: int = 0, clock: ClockName = "wall") -> None:
        self.clock: ClockName = clock
        family = device_class.partition("/")[0]
        if family not in ALLOCATORS:
            known = ", ".join(sorted(ALLOCATORS))
            raise DeviceMissing(f"device_class is {device_class!r}; its first word must be one of {known}")
        self.type = ALLOCATORS[family]
        if self.type != "cpu" and not _is_available(family, self.type):
            raise DeviceMissing(f"the job asks for {device_class}; torch {torch.__version__} sees no {family} device")
        self.torch = torch.device("cpu") if self.type == "cpu" else torch.device(self.type, index)

    @property
    def on_processor(self) -> bool:
        """Whether work is done when the call returns."""
        return self.type == "cpu"

    @property
    def name(self) -> str:
        """What the driver calls it."""
        if self.type in ("cuda", "xpu"):
            return str(_backend(self.type).get_device_name(self.torch))
        return self.type

    def wait(self) -> None:
        """Return when all work that was sent is done."""
        if not self.on_processor:
            _backend(self.type).synchronize()

    def now(self) -> float:
        """Seconds since some instant, by the clock."""
        return time.process_time() if self.clock == "processor" else time.perf_counter()

    def mark(self) -> Any:
        """A point in the device's stream of work; take the seconds between two with `seconds_between`, once done."""
        if self.type not in ("cuda", "xpu"):
            self.wait()
            return self.now()
        event = torch.Event(self.torch, enable_timing=True)
        event.record()
        return event

    def reset_peak(self) -> None:
        """Begin to look for the highest bytes anew."""
        if self.type in ("cuda", "xpu"):
            _backend(self.type).reset_peak_memory_stats(self.torch)

    def peak(self) -> Peak | None:
        """What the allocator counted; None on the processor, whose allocator counts nothing.

        MPS keeps no peak: what it holds now is the best it says (torch.mps, `driver_allocated_memory`).
        """
        if self.type in ("cuda", "xpu"):
            backend = _backend(self.type)
            return Peak(backend.max_memory_allocated(self.torch), backend.max_memory_reserved(self.torch))
        if self.type == "mps":
            backend = _backend("mps")
            return Peak(backend.current_allocated_memory(), backend.driver_allocated_memory())
        return None


def seconds_between(begin: Any, end: Any) -> float:
    """Seconds between two marks; the device must have passed both."""
    if isinstance(begin, float):
        return end - begin
    return begin.elapsed_time(end) / 1000


def _backend(name: str) -> Any:
    return getattr(torch, name)


def _is_available(family: str, name: str) -> bool:
    """Whether this build of torch sees such devices. CUDA and ROCm share a name; the build is for one of them."""
    is_other_build = family in ("cuda", "rocm") and (torch.version.hip is not None) != (family == "rocm")
    return not is_other_build and hasattr(torch, name) and bool(_backend(name).is_available())
