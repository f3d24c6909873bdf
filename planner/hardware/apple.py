"""Apple's limit on GPU memory: it follows macOS, not the chip."""

from __future__ import annotations

from typing import Final

from planner.units import GIB

MACOS_WITH_HIGHER_LIMIT: Final = 26
DEFAULT_MACOS: Final = 15
"""The lower limits hold where the version is unknown, so that a plan does not fail on the older system."""

_MACOS_26_GIB: Final = (
    (16, 11.8),
    (24, 17.8),
    (32, 25.0),
    (36, 28.1),
    (48, 37.4),
    (64, 51.8),
    (96, 77.8),
    (128, 107.5),
    (512, 464.0),
)
"""RAM and working set seen in llama.cpp start-up logs under macOS 26 (12713, 19070, 26801, 30151, 40201, 55663,
115449 and 498216 MB); 96 GiB is interpolated."""


def working_set_bytes(memory_bytes: int, macos_major: int = DEFAULT_MACOS) -> int:
    """Return MTLDevice.recommendedMaxWorkingSetSize for a Mac with `memory_bytes` of memory.

    To macOS 15 it is 2/3 of RAM below 36 GiB and 3/4 from there (28,991 MB seen on 36 GB under 15.7.7). macOS 26 is
    higher by size; between the sizes seen, the fraction of the next smaller one holds, and below 16 GiB the older rule.
    `sysctl iogpu.wired_limit_mb` raises it at the system's expense.
    """
    older = memory_bytes * 2 // 3 if memory_bytes < 36 * GIB else memory_bytes * 3 // 4
    if macos_major < MACOS_WITH_HIGHER_LIMIT:
        return older
    seen = [(ram, limit) for ram, limit in _MACOS_26_GIB if ram * GIB <= memory_bytes]
    if not seen:
        return older
    ram_gib, limit_gib = seen[-1]
    return round(memory_bytes * limit_gib / ram_gib)
