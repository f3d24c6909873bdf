"""Fake /proc and /sys trees, and a fake NVML, for detection tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

MIB = 2**20

CPU_BLOCK = """processor\t: {number}
vendor_id\t: {vendor}
cpu family\t: {family}
model name\t: {name}
cpu MHz\t\t: 2400.000
flags\t\t: {flags}
"""


def write(root: Path, files: Mapping[str, str | int]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n", encoding="utf-8")


def processor(
    proc: Path,
    sys: Path,
    *,
    name: str = "Some CPU",
    threads: int = 8,
    threads_per_core: int = 2,
    flags: str = "fpu avx avx2 fma",
    vendor: str = "GenuineIntel",
    family: int = 6,
) -> None:
    blocks = [
        CPU_BLOCK.format(number=number, vendor=vendor, family=family, name=name, flags=flags)
        for number in range(threads)
    ]
    write(proc, {"cpuinfo": "\n".join(blocks)})
    cores = threads // threads_per_core
    siblings = {
        f"devices/system/cpu/cpu{number}/topology/thread_siblings_list": ",".join(
            str(number % cores + step * cores) for step in range(threads_per_core)
        )
        for number in range(threads)
    }
    write(sys, siblings)


def memory(proc: Path, total_mib: int, available_mib: int) -> None:
    write(proc, {"meminfo": f"MemTotal:       {total_mib * 1024} kB\nMemAvailable:   {available_mib * 1024} kB"})


def amd_card(
    sys: Path,
    number: int,
    device: str,
    revision: str,
    *,
    vram: int,
    used: int = 0,
    gtt: int = 0,
    gfx: int | None = None,
) -> None:
    base = f"class/drm/card{number}/device"
    write(
        sys,
        {
            f"{base}/vendor": "0x1002",
            f"{base}/device": device,
            f"{base}/revision": revision,
            f"{base}/mem_info_vram_total": vram,
            f"{base}/mem_info_vram_used": used,
            f"{base}/mem_info_gtt_total": gtt,
            f"{base}/drm/renderD{128 + number}/dev": f"226:{128 + number}",
        },
    )
    if gfx is not None:
        node = f"class/kfd/kfd/topology/nodes/{number + 1}/properties"
        write(sys, {node: f"simd_count 192\ngfx_target_version {gfx}\ndrm_render_minor {128 + number}"})


class FakeNvmlError(Exception):
    """What NVML raises."""


class FakeNvml:
    """The few calls of pynvml that detection makes, over a list of devices."""

    nvmlMemory_v2 = 33554472

    def __init__(self, *devices: Mapping[str, Any], newer: bool = True, driver: str | bytes = "580.10") -> None:
        self.devices = devices
        self.newer = newer
        self.driver = driver
        self.open = 0

    def nvmlInit(self) -> None:
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlSystemGetDriverVersion(self) -> str | bytes:
        return self.driver

    def nvmlDeviceGetCount(self) -> int:
        return len(self.devices)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Mapping[str, Any]:
        return self.devices[index]

    def nvmlDeviceGetName(self, handle: Mapping[str, Any]) -> str | bytes:
        return handle["name"]

    def nvmlDeviceGetUUID(self, handle: Mapping[str, Any]) -> str:
        return handle.get("uuid", "GPU-0")

    def nvmlDeviceGetCudaComputeCapability(self, handle: Mapping[str, Any]) -> tuple[int, int]:
        return handle["capability"]

    def nvmlDeviceGetMemoryInfo(self, handle: Mapping[str, Any], version: int | None = None) -> SimpleNamespace:
        if "total" not in handle or (version and not self.newer):
            raise FakeNvmlError("Not Supported")
        if version:
            return SimpleNamespace(total=handle["total"], reserved=handle["reserved"], used=handle["used"])
        return SimpleNamespace(total=handle["total"], used=handle["used"] + handle["reserved"])
