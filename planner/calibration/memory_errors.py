"""Which errors mean that memory ran out, and whose."""

from __future__ import annotations

from typing import Final, Literal

import torch

HOST_WORDS: Final = ("can't allocate memory", "not enough memory", "cannot allocate memory")
"""c10/core/impl/alloc_cpu.cpp: "DefaultCPUAllocator: can't allocate memory: you tried to allocate N bytes"."""
DEVICE_WORDS: Final = ("out of memory",)
"""torch.OutOfMemoryError of CUDA and XPU; MPS raises a RuntimeError "MPS backend out of memory"."""


def ran_out(error: BaseException) -> Literal["oom_device", "oom_host"] | None:
    """Whose memory ran out; None where the error means something else."""
    if isinstance(error, torch.OutOfMemoryError):
        return "oom_device"
    if isinstance(error, MemoryError):
        return "oom_host"
    said = str(error).lower()
    if isinstance(error, RuntimeError | OSError):
        if any(words in said for words in HOST_WORDS):
            return "oom_host"
        if any(words in said for words in DEVICE_WORDS):
            return "oom_device"
    return None
