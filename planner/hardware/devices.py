"""The catalogue of devices: reading it, looking one up, matching an exact name, searching."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import Final

from planner.hardware import facts
from planner.hardware.apple import working_set_bytes
from planner.hardware.errors import UnknownDevice
from planner.hardware.facts import Row
from planner.hardware.profile import (
    FLOPS_PER_TERAFLOP,
    DeviceProfile,
    HostFigures,
    Interconnect,
    Provenance,
)
from planner.units import GB, GIB, MIB

MAXIMUM_PAGE: Final = 200
MEMORY_TOLERANCE: Final = 0.08
"""How far a detected size may lie from the catalogue's for a name to mean that row: ECC takes 6.25 % (an RTX A6000
shows 46,068 MiB of 49,140), driver versions about 2 %; the next size of a card of the same name differs by 17 %."""


@dataclass(frozen=True, slots=True)
class DevicePage:
    """Some devices of a search; `next_cursor` asks for the following ones, None at the end."""

    items: tuple[DeviceProfile, ...]
    next_cursor: str | None


@cache
def _by_id() -> Mapping[str, DeviceProfile]:
    return {row["id"]: _profile_of(row) for row in facts.read_rows("devices.jsonl")}


def all_devices() -> Sequence[DeviceProfile]:
    """Return every device of the catalogue, in its order."""
    return tuple(_by_id().values())


def device(device_id: str) -> DeviceProfile:
    """Return the device with this id, or with exactly this name where only one has it.

    Raises:
        UnknownDevice: no such id; the error names ids that look alike.
    """
    found = _by_id().get(device_id.strip().casefold()) or match_name(device_id)
    if found is None:
        raise UnknownDevice(device_id, nearest_ids(device_id))
    return found


def nearest_ids(text: str, limit: int = 3) -> tuple[str, ...]:
    """Return ids that `text` finds or resembles, best first: a suggestion for an error message, never an answer."""
    named = find_devices(text[:128], limit=limit).items
    if named:
        return tuple(item.id for item in named)
    return tuple(get_close_matches(text[:128].strip().casefold(), list(_by_id()), n=limit, cutoff=0.5))


def find_devices(q: str = "", *, limit: int = 50, cursor: str | None = None) -> DevicePage:
    """Return the devices whose id, name, alias, vendor, kind or architecture hold every word of `q`.

    Spaces and hyphens do not count (`rtx4090`), a Mac of any kind is an Apple, which also has the sizes that it is sold
    with (`macbook pro m3 max 64gb`), and a number alone is none of an architecture.
    Sorted by vendor, then newest first, then by name. `cursor` is the `next_cursor` of the page before.

    Raises:
        ValueError: `limit` is not 1 to 200, or `cursor` is not one that this function gave out.
    """
    if not 1 <= limit <= MAXIMUM_PAGE:
        raise ValueError(f"limit must be 1 to {MAXIMUM_PAGE}, not {limit}")
    if cursor is not None and not re.fullmatch("[0-9]{1,6}", cursor, re.ASCII):
        raise ValueError("cursor must be the `next` of an earlier page")
    start = int(cursor or 0)
    words = _MACS.sub(" apple ", q.casefold()).replace("gib", "gb").split()
    found = [item for item in _sorted() if all(_is_named(item.id, word) for word in words)]
    end = start + limit
    return DevicePage(tuple(found[start:end]), str(end) if end < len(found) else None)


def match_name(name: str, memory_bytes: int | None = None) -> DeviceProfile | None:
    """Return the one device that prints exactly this name, or None.

    Case and spaces don't matter, parts of names do: "NVIDIA L40" is not an L4. Cards of one name and several sizes (an
    RTX 4060 Ti) are told apart by `memory_bytes`; a size that none of them has is no match.
    """
    return _only(_by_alias().get(normalise(name), ()), memory_bytes)


def named(name: str) -> Sequence[DeviceProfile]:
    """Every device that prints exactly this name: cards of several sizes may share one."""
    return tuple(_by_alias().get(normalise(name), ()))


def match_pci(pci_id: str, memory_bytes: int | None = None) -> DeviceProfile | None:
    """Return the one device with this PCI id, "vendor:device:revision" or "vendor:device" in hex, or None."""
    key = pci_id.casefold()
    candidates = _by_pci().get(key) or _by_pci().get(key.rsplit(":", 1)[0], ())
    return _only(candidates, memory_bytes)


def normalise(name: str) -> str:
    """Return a name as matching sees it: case folded, runs of spaces as one."""
    return " ".join(name.casefold().split())


def _only(candidates: Sequence[DeviceProfile], memory_bytes: int | None) -> DeviceProfile | None:
    if memory_bytes is not None:
        candidates = [item for item in candidates if _same_size(item, memory_bytes)]
    return candidates[0] if len(candidates) == 1 else None


def _same_size(profile: DeviceProfile, memory_bytes: int) -> bool:
    total = profile.memory_total_bytes
    if total is None or profile.memory_options_bytes:
        return True
    return abs(memory_bytes - total) <= MEMORY_TOLERANCE * total


@cache
def _by_alias() -> Mapping[str, list[DeviceProfile]]:
    index: dict[str, list[DeviceProfile]] = {}
    for item in _by_id().values():
        for alias in {normalise(name) for name in (item.name, *item.aliases)}:
            index.setdefault(alias, []).append(item)
    return index


@cache
def _by_pci() -> Mapping[str, list[DeviceProfile]]:
    index: dict[str, list[DeviceProfile]] = {}
    for item in _by_id().values():
        for pci_id in item.pci_ids:
            index.setdefault(pci_id, []).append(item)
    return index


@cache
def _sorted() -> Sequence[DeviceProfile]:
    return sorted(_by_id().values(), key=lambda item: (item.vendor, -(item.release_year or 0), item.name))


_MACS: Final = re.compile(r"\b(?:macbook(?:[ -]?(?:pro|air))?|imac(?:[ -]?pro)?|mac(?:[ -]?(?:studio|mini|pro))?)\b")
"""Macs as people call them; the catalogue has their chips."""
_GAPS: Final = str.maketrans("", "", "- ")


def _is_named(device_id: str, word: str) -> bool:
    """Whether a word of a search is in what names a device."""
    names, architecture = _search_texts(device_id)
    joined = word.translate(_GAPS)
    return any(joined in name for name in names) or (not joined.isdecimal() and joined in architecture)


@cache
def _search_texts(device_id: str) -> tuple[Sequence[str], str]:
    """The names of a device and its architecture, case folded and without gaps."""
    item = _by_id()[device_id]
    sizes = [f"{option // GIB} gb" for option in item.memory_options_bytes]
    names = (item.id, item.name, *item.aliases, item.vendor, item.kind, *sizes)
    return [name.casefold().translate(_GAPS) for name in names], item.architecture.casefold().translate(_GAPS)


def _profile_of(row: Row) -> DeviceProfile:
    architecture = row["architecture"]
    memory = _memory_of(row)
    context_bytes, context_provenance = _context_of(row)
    rounding_bytes, rounding_provenance = facts.rounding(architecture)
    measured: Mapping[str, float] = row["measured_matmul_tflops"] or {}
    provenance = {
        **memory.provenance,
        "context_bytes": context_provenance,
        "allocation_rounding_bytes": rounding_provenance,
        "peak_flops": Provenance(row["peak_basis"], row["peak_derivation"] or "; ".join(row["sources"])),
        "memory_bandwidth_bytes_per_second": Provenance("vendor", "; ".join(row["sources"])),
    }
    if measured:
        provenance["measured_flops"] = Provenance("measured", "; ".join(row["measured_source"]))
    return DeviceProfile(
        id=row["id"],
        name=row["name"],
        aliases=tuple(row["aliases"]),
        pci_ids=tuple(row["pci_ids"]),
        vendor=row["vendor"],
        kind=row["kind"],
        product_line=row["product_line"],
        architecture=architecture,
        logical_devices_per_unit=row["logical_devices_per_unit"],
        memory_total_bytes=memory.total_bytes,
        memory_basis=row["memory"]["total_basis"] if row["memory"] else "host_decides",
        memory_options_bytes=memory.options_bytes,
        system_reserved_bytes=memory.reserved_bytes,
        memory_bandwidth_bytes_per_second=round(row["memory_bandwidth_gb_s"] * GB),
        peak_flops=_flops(row["peak_tflops"]),
        measured_flops=_flops(measured),
        matmul_efficiency=facts.efficiencies(row["product_line"]),
        emulated_rates=facts.emulated_rates(architecture),
        interconnect=_interconnect_of(row),
        tdp_watts=row["tdp_watts"],
        supports=facts.supports(architecture),
        allocator_family=facts.architectures()[architecture]["allocator"],
        allocation_rounding_bytes=rounding_bytes,
        context_bytes=context_bytes,
        host=_host_of(row),
        release_year=row["release_year"],
        confidence=row["confidence"],
        notes=tuple(row["notes"]),
        sources=tuple(row["sources"]),
        provenance=provenance,
    )


@dataclass(frozen=True, slots=True)
class _Memory:
    total_bytes: int | None
    reserved_bytes: int
    options_bytes: tuple[int, ...]
    provenance: dict[str, Provenance]


def _memory_of(row: Row) -> _Memory:
    memory = row["memory"]
    if memory is None:
        return _Memory(
            None, 0, (), {"memory_total_bytes": Provenance("host_decides", "a CPU's capacity is the host's")}
        )
    total_bytes = memory["total_mib"] * MIB
    if memory["usable_basis"] == "rule":
        reserved_bytes = total_bytes - working_set_bytes(total_bytes)
    elif memory["usable_mib"] is None:
        reserved_bytes = 0
    else:
        reserved_bytes = total_bytes - memory["usable_mib"] * MIB
    provenance = {
        "memory_total_bytes": Provenance(memory["total_basis"], memory["total_source"]),
        "system_reserved_bytes": Provenance(memory["usable_basis"], memory["usable_source"]),
    }
    options_bytes = tuple(option * GIB for option in memory.get("options_gib", ()))
    return _Memory(total_bytes, reserved_bytes, options_bytes, provenance)


def _context_of(row: Row) -> tuple[int, Provenance]:
    if row["context_mib"] is not None:
        return row["context_mib"] * MIB, Provenance("measured", row["context_source"])
    return facts.context(row["architecture"])


def _flops(teraflops: Mapping[str, float]) -> dict[str, int]:
    return {dtype: round(value * FLOPS_PER_TERAFLOP) for dtype, value in teraflops.items()}


def _interconnect_of(row: Row) -> Interconnect | None:
    link = row["interconnect"]
    if link is None:
        return None
    return Interconnect(link["name"], None if link["gb_s"] is None else round(link["gb_s"] * GB))


def _host_of(row: Row) -> HostFigures | None:
    host = row["host"]
    if host is None:
        return None
    limit_gib = host["memory_max_gib"]
    return HostFigures(
        cores=host["cores"],
        base_hertz=round(host["base_ghz"] * 10**9),
        memory_max_bytes=None if limit_gib is None else limit_gib * GIB,
        memory_channels=host["memory_channels"],
    )
