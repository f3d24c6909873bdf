"""Limits of the container that we run in: cgroup v2, and v1 where that still rules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.detect.files import read_int, read_text

# A v1 group without a limit shows 2**63 - 1 rounded down to a page; nothing real has an exbibyte.
_UNLIMITED_BYTES = 2**60


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    limit_bytes: int
    available_bytes: int


@dataclass(frozen=True, slots=True)
class _Names:
    limit: str
    usage: str
    reclaimable: str


_V2 = _Names("memory.max", "memory.current", "inactive_file")
_V1 = _Names("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def memory_limit(proc: Path, sys: Path) -> MemoryLimit | None:
    """The tightest memory limit of our group and its parents, with what is left below it; None without a limit.

    File cache that the kernel would drop (inactive_file) counts as available, as in the kernel's MemAvailable.
    """
    limits = [
        *(_limit_at(folder, _V2) for folder in _levels(proc, sys, "")),
        *(_limit_at(folder, _V1) for folder in _levels(proc, sys, "memory")),
    ]
    real = [limit for limit in limits if limit is not None]
    if not real:
        return None
    return MemoryLimit(min(each.limit_bytes for each in real), min(each.available_bytes for each in real))


def cpu_quota(proc: Path, sys: Path) -> float | None:
    """The processors' worth of time that the tightest group gives us, None without a quota."""
    quotas = [
        *(_quota_v2(folder) for folder in _levels(proc, sys, "")),
        *(_quota_v1(folder) for folder in _levels(proc, sys, "cpu")),
    ]
    real = [quota for quota in quotas if quota is not None]
    return min(real) if real else None


def _limit_at(folder: Path, names: _Names) -> MemoryLimit | None:
    limit_bytes = read_int(folder / names.limit)
    if limit_bytes is None or not 0 < limit_bytes < _UNLIMITED_BYTES:
        return None
    used_bytes = read_int(folder / names.usage) or 0
    reclaimable_bytes = _stat(folder / "memory.stat", names.reclaimable)
    return MemoryLimit(limit_bytes, max(0, limit_bytes - max(0, used_bytes - reclaimable_bytes)))


def _stat(path: Path, key: str) -> int:
    for line in (read_text(path) or "").splitlines():
        name, _, value = line.partition(" ")
        if name == key and value.isdigit():
            return int(value)
    return 0


def _quota_v2(folder: Path) -> float | None:
    words = (read_text(folder / "cpu.max") or "").split()
    if len(words) != 2 or not all(word.isdigit() for word in words) or words[1] == "0":
        return None
    return int(words[0]) / int(words[1])


def _quota_v1(folder: Path) -> float | None:
    quota, period = read_int(folder / "cpu.cfs_quota_us"), read_int(folder / "cpu.cfs_period_us")
    return quota / period if quota and period and quota > 0 and period > 0 else None


def _levels(proc: Path, sys: Path, controller: str) -> Iterator[Path]:
    """Our group's folder and its parents up to the mount, for v2 (controller "") or one v1 controller."""
    mount = _mount(sys, controller)
    own = Path(_own_group(proc, controller).lstrip("/"))
    if mount is None or ".." in own.parts:
        return
    yield from (mount / level for level in (own, *own.parents) if (mount / level).is_dir())


def _mount(sys: Path, controller: str) -> Path | None:
    base = sys / "fs" / "cgroup"
    if controller:
        return base / controller
    return next((path for path in (base, base / "unified") if (path / "cgroup.controllers").exists()), None)


def _own_group(proc: Path, controller: str) -> str:
    for line in (read_text(proc / "self" / "cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller in controllers.split(","):
            return path
    return "/"
