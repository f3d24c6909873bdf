"""One look at this machine: never raises, takes well under 150 ms, and says why a thing was not found."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psutil

from app.detect import linux
from app.detect.amd import probe_amd
from app.detect.apple import find_mac, system_sysctl
from app.detect.found import DetectedMachine, FoundCpu, FoundDevice, FoundMemory, Probe
from app.detect.intel import probe_intel
from app.detect.nvidia import probe_nvidia
from app.detect.windows import find_windows_cpu, registry_processor, system_has_feature

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Roots:
    """Where to look: the real system, or a tree that a test made. `disk` is the folder whose free space counts."""

    proc: Path = Path("/proc")
    sys: Path = Path("/sys")
    disk: Path = Path()


def detect(roots: Roots | None = None, *, platform: str = sys.platform) -> DetectedMachine:
    """Find this machine's processor, memory, disk and accelerators, without torch and without starting a process."""
    roots = roots or Roots()
    reasons: dict[str, str] = {}
    if platform == "darwin":
        found = _guarded(reasons, "system", _mac) or DetectedMachine(system="macos")
    elif platform == "win32":
        found = _guarded(reasons, "system", _windows) or DetectedMachine(system="windows")
    else:
        found = _linux(roots, reasons)
    probes: dict[str, Callable[[], Probe]] = {"nvidia": probe_nvidia}
    if platform.startswith("linux"):
        probes |= {"amd": lambda: probe_amd(roots.sys), "intel": lambda: probe_intel(roots.sys)}
    devices = [*found.devices, *_probed(probes, reasons)]
    return DetectedMachine(
        system=found.system,
        cpu=found.cpu,
        memory=found.memory,
        disk_free_bytes=_guarded(reasons, "disk", lambda: shutil.disk_usage(roots.disk).free),
        macos_major=found.macos_major,
        devices=tuple(devices),
        reasons=reasons,
    )


def _probed(probes: dict[str, Callable[[], Probe]], reasons: dict[str, str]) -> list[FoundDevice]:
    devices: list[FoundDevice] = []
    for name, probe in probes.items():
        result = _guarded(reasons, name, probe) or Probe()
        devices += result.devices
        if result.reason:
            reasons[name] = result.reason
    return devices


def _linux(roots: Roots, reasons: dict[str, str]) -> DetectedMachine:
    return DetectedMachine(
        system="linux",
        cpu=_guarded(reasons, "cpu", lambda: linux.find_cpu(roots.proc, roots.sys, linux.allowed_threads())),
        memory=_guarded(reasons, "memory", lambda: linux.find_memory(roots.proc, roots.sys)),
    )


def _mac() -> DetectedMachine:
    mac = find_mac(system_sysctl())
    if mac is None:
        return DetectedMachine(system="macos", memory=_memory())
    devices = (mac.gpu,) if mac.gpu else ()
    return DetectedMachine(system="macos", cpu=mac.cpu, memory=_memory(), macos_major=mac.macos_major, devices=devices)


def _windows() -> DetectedMachine:
    return DetectedMachine(system="windows", cpu=_windows_cpu(), memory=_memory())


def _windows_cpu() -> FoundCpu:
    threads = psutil.cpu_count(logical=True) or 1
    cores = psutil.cpu_count(logical=False) or threads
    return find_windows_cpu(registry_processor(), cores, threads, system_has_feature)


def _memory() -> FoundMemory:
    now = psutil.virtual_memory()
    return FoundMemory(now.total, now.available, now.total)


def _guarded(reasons: dict[str, str], name: str, probe: Callable[[], T]) -> T | None:
    """Run one probe; whatever goes wrong becomes its reason, because a page must not fail over an odd machine."""
    try:
        result = probe()
    except Exception as error:
        reasons[name] = f"{type(error).__name__}: {error}"
        return None
    if result is None:
        reasons[name] = "not found"
    return result
