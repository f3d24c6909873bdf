"""A Windows machine's processor: the registry's name and clock, and features by IsProcessorFeaturePresent."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

from app.detect.found import FoundCpu

# winnt.h: PF_AVX_INSTRUCTIONS_AVAILABLE 39, PF_AVX2_... 40, PF_AVX512F_... 41, PF_ARM_NEON_... 19.
_FEATURES = {39: ("avx",), 40: ("avx2", "fma"), 41: ("avx512f",), 19: ("asimd",)}


@dataclass(frozen=True, slots=True)
class Processor:
    """What the registry says."""

    name: str
    megahertz: int | None


def find_windows_cpu(processor: Processor, cores: int, threads: int, has_feature: Callable[[int], bool]) -> FoundCpu:
    flags = sorted(flag for number, names in _FEATURES.items() if has_feature(number) for flag in names)
    lowered = processor.name.casefold()
    vendor = "amd" if lowered.startswith("amd ") else "intel" if "intel(r)" in lowered else "unknown"
    return FoundCpu(
        name=" ".join(processor.name.split()),
        vendor=vendor,
        cores=cores,
        cores_present=cores,
        threads=threads,
        hertz=processor.megahertz * 10**6 if processor.megahertz else None,
        flags=tuple(flags),
    )


def registry_processor() -> Processor:
    """The first processor of the registry.

    Raises:
        OSError: no such key, or no Windows.
    """
    if sys.platform != "win32":
        raise OSError("not Windows")
    import winreg

    with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"HARDWARE\DESCRIPTION\System\CentralProcessor\0") as key:
        name = str(winreg.QueryValueEx(key, "ProcessorNameString")[0])
        return Processor(name, int(winreg.QueryValueEx(key, "~MHz")[0]))


def system_has_feature(number: int) -> bool:
    """Raises OSError where this is no Windows."""
    if sys.platform != "win32":
        raise OSError("not Windows")
    import ctypes

    return bool(ctypes.windll.kernel32.IsProcessorFeaturePresent(number))
