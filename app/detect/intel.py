"""Intel graphics by what the xe and i915 drivers show under /sys."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from app.detect.drm import Card, cards
from app.detect.files import children, read_int
from app.detect.found import FoundDevice, Probe

INTEL_VENDOR = 0x8086


def probe_intel(sys: Path) -> Probe:
    """Every Intel card; one without local memory is graphics inside the processor."""
    found = _numbered(_device(card) for card in cards(sys, INTEL_VENDOR))
    return Probe(found, None if found else "no Intel card under /sys/class/drm")


def _device(card: Card) -> FoundDevice:
    tiles = _tile_bytes(card)
    total_bytes = sum(tiles) if tiles else _local_memory(card, "lmem_total_bytes")
    available_bytes = _local_memory(card, "lmem_avail_bytes")
    return FoundDevice(
        vendor="intel",
        kind="gpu" if total_bytes else "apu",
        name=f"Intel graphics {card.pci_id}",
        driver=card.driver,
        address=card.address,
        pci_id=card.pci_id,
        memory_total_bytes=total_bytes or None,
        # xe does not show what is in use.
        used_bytes=total_bytes - available_bytes if total_bytes and available_bytes is not None else None,
        tiles=max(1, len(tiles)),
    )


def _numbered(devices: Iterable[FoundDevice]) -> tuple[FoundDevice, ...]:
    """Numbers as Level Zero gives them by PCI address where every tile is a device (ZE_FLAT_DEVICE_HIERARCHY=FLAT)."""
    numbered: list[FoundDevice] = []
    for device in sorted(devices, key=lambda device: device.address or ""):
        numbered.append(replace(device, index=sum(before.tiles for before in numbered)))
    return tuple(numbered)


def _tile_bytes(card: Card) -> list[int]:
    """Memory of each tile under xe: physical_vram_size_bytes, physical memory with its reserved pages."""
    sizes = (read_int(tile / "physical_vram_size_bytes") for tile in children(card.device, "tile[0-9]*"))
    return [size for size in sizes if size]


def _local_memory(card: Card, name: str) -> int | None:
    for folder in (card.folder, card.device):
        value = read_int(folder / name)
        if value is not None:
            return value
    return None
