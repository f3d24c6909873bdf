"""A Mac, by sysctlbyname: chip, memory, cores, the system's version, and a raised limit on GPU memory."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass

from app.detect.found import FoundCpu, FoundDevice

Sysctl = Callable[[str], bytes | None]
"""Returns the raw value of one name, None where the kernel has no such name."""

_BUFFER_BYTES = 256


@dataclass(frozen=True, slots=True)
class Mac:
    cpu: FoundCpu
    installed_bytes: int
    macos_major: int | None
    gpu: FoundDevice | None


def find_mac(sysctl: Sysctl) -> Mac | None:
    name, installed_bytes = _text(sysctl, "machdep.cpu.brand_string"), _number(sysctl, "hw.memsize")
    if name is None or installed_bytes is None:
        return None
    cores = _number(sysctl, "hw.physicalcpu") or 1
    hertz = _number(sysctl, "hw.cpufrequency")
    apple = name.startswith("Apple ")
    flags = _apple_flags(sysctl) if apple else _intel_flags(sysctl)
    cpu = FoundCpu(
        name=name,
        vendor="apple" if apple else "intel",
        cores=cores,
        cores_present=cores,
        threads=_number(sysctl, "hw.logicalcpu") or cores,
        hertz=hertz or None,
        flags=flags,
    )
    version = (_text(sysctl, "kern.osproductversion") or "").split(".")[0]
    return Mac(cpu, installed_bytes, int(version) if version.isdigit() else None, _gpu(sysctl, name) if apple else None)


def system_sysctl() -> Sysctl:
    """The running kernel's sysctlbyname.

    Raises:
        OSError, AttributeError: this is no BSD.
    """
    function = ctypes.CDLL(None).sysctlbyname

    def read(name: str) -> bytes | None:
        buffer = ctypes.create_string_buffer(_BUFFER_BYTES)
        size = ctypes.c_size_t(_BUFFER_BYTES)
        failed = function(name.encode(), buffer, ctypes.byref(size), None, ctypes.c_size_t(0))
        return None if failed else buffer.raw[: size.value]

    return read


def _gpu(sysctl: Sysctl, name: str) -> FoundDevice:
    wired_mb = _number(sysctl, "iogpu.wired_limit_mb")
    return FoundDevice(
        vendor="apple",
        kind="apple",
        name=name,
        driver="metal",
        shared_limit_bytes=wired_mb * 2**20 if wired_mb else None,
    )


def _apple_flags(sysctl: Sysctl) -> tuple[str, ...]:
    return ("asimd", "bf16") if _number(sysctl, "hw.optional.arm.FEAT_BF16") else ("asimd",)


def _intel_flags(sysctl: Sysctl) -> tuple[str, ...]:
    names = {"hw.optional.avx2_0": "avx2", "hw.optional.fma": "fma", "hw.optional.avx512f": "avx512f"}
    return tuple(flag for name, flag in names.items() if _number(sysctl, name))


def _text(sysctl: Sysctl, name: str) -> str | None:
    raw = sysctl(name)
    return None if raw is None else raw.rstrip(b"\x00").decode("utf-8", "replace")


def _number(sysctl: Sysctl, name: str) -> int | None:
    raw = sysctl(name)
    return None if raw is None or len(raw) not in (4, 8) else int.from_bytes(raw, "little")
