"""Processor and memory of a Linux machine, from /proc and /sys."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path

from app.detect.cgroup import cpu_quota, memory_limit
from app.detect.files import children, read_int, read_text
from app.detect.found import FoundCpu, FoundMemory

_VENDORS = {"GenuineIntel": "intel", "AuthenticAMD": "amd", "0x41": "arm", "0x61": "apple", "0xc0": "ampere"}


def find_cpu(proc: Path, sys: Path, allowed_threads: int | None = None) -> FoundCpu | None:
    """The processor; `allowed_threads` is how many this process may run on (its affinity mask)."""
    blocks = _cpuinfo(read_text(proc / "cpuinfo") or "")
    if not blocks:
        return None
    first, threads = blocks[0], len(blocks)
    present = _physical_cores(sys, threads)
    threads_per_core = max(1, threads // present)
    usable = present if allowed_threads is None else min(present, math.ceil(allowed_threads / threads_per_core))
    quota = cpu_quota(proc, sys)
    vendor = _VENDORS.get(first.get("vendor_id") or first.get("CPU implementer", ""), "unknown")
    family = first.get("cpu family", "")
    return FoundCpu(
        name=_name(first),
        vendor=vendor,
        cores=max(1, usable if quota is None else min(usable, math.ceil(quota))),
        cores_present=present,
        threads=threads,
        hertz=_base_hertz(sys, first),
        family=int(family) if family.isdigit() else None,
        flags=tuple(sorted((first.get("flags") or first.get("Features") or "").split())),
    )


def find_memory(proc: Path, sys: Path) -> FoundMemory | None:
    """Installed memory, and what is really available under a container's limit."""
    fields = dict(re.findall(r"^(\w+):\s+(\d+) kB", read_text(proc / "meminfo") or "", re.MULTILINE))
    if "MemTotal" not in fields:
        return None
    installed_bytes = int(fields["MemTotal"]) * 1024
    free_bytes = int(fields.get("MemAvailable", fields.get("MemFree", fields["MemTotal"]))) * 1024
    limit = memory_limit(proc, sys)
    if limit is None or limit.limit_bytes >= installed_bytes:
        return FoundMemory(installed_bytes, min(free_bytes, installed_bytes), installed_bytes)
    available_bytes = min(free_bytes, limit.available_bytes)
    return FoundMemory(limit.limit_bytes, available_bytes, installed_bytes, limit.limit_bytes)


def allowed_threads() -> int | None:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else None


def _cpuinfo(text: str) -> list[Mapping[str, str]]:
    blocks: list[Mapping[str, str]] = []
    for block in re.split(r"\n\s*\n", text):
        pairs = (line.partition(":") for line in block.splitlines())
        fields = {key.strip(): value.strip() for key, colon, value in pairs if colon}
        if "processor" in fields:
            blocks.append(fields)
    return blocks


def _physical_cores(sys: Path, threads: int) -> int:
    """Distinct sets of sibling threads; where the kernel does not say, each thread counts as a core."""
    folder = sys / "devices" / "system" / "cpu"
    siblings = {read_text(cpu / "topology" / "thread_siblings_list") for cpu in children(folder, "cpu[0-9]*")} - {
        None,
        "",
    }
    return min(len(siblings), threads) if siblings else threads


def _name(fields: Mapping[str, str]) -> str:
    named = fields.get("model name")
    if named:
        return " ".join(named.split())
    return f"Arm processor {fields.get('CPU implementer', '?')}:{fields.get('CPU part', '?')}"


def _base_hertz(sys: Path, fields: Mapping[str, str]) -> int | None:
    """Base clock: the kernel's figure, else the name's ("@ 2.30GHz"), else the clock of this moment."""
    base_khz = read_int(sys / "devices" / "system" / "cpu" / "cpu0" / "cpufreq" / "base_frequency")
    if base_khz:
        return base_khz * 1000
    in_name = re.search(r"@ ([0-9.]+)GHz", fields.get("model name", ""))
    if in_name:
        return round(float(in_name[1]) * 1e9)
    now = re.fullmatch(r"\d+(\.\d+)?", fields.get("cpu MHz", ""))
    return round(float(now[0]) * 1e6) if now and float(now[0]) > 0 else None
