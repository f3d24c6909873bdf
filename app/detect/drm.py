"""Graphics devices that the Linux kernel lists under /sys/class/drm."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.detect.files import children, read_int


@dataclass(frozen=True, slots=True)
class Card:
    """One card: its folder, the PCI device below it with its address, "vendor:device:revision" in hex, and its render
    node's number."""

    folder: Path
    device: Path
    address: str | None
    pci_id: str
    driver: str
    render_minor: int | None


def cards(sys: Path, vendor_id: int) -> Iterator[Card]:
    for folder in children(sys / "class" / "drm", "card[0-9]*"):
        device = folder / "device"
        if not re.fullmatch(r"card\d+", folder.name) or read_int(device / "vendor") != vendor_id:
            continue
        part, revision = read_int(device / "device"), read_int(device / "revision")
        if part is not None:
            pci_id = f"{vendor_id:04x}:{part:04x}:{revision or 0:02x}"
            yield Card(folder, device, _address(device), pci_id, _driver(device), _render_minor(device))


def _address(device: Path) -> str | None:
    """The PCI address, which is the name of the folder that the link leads to: "0000:03:00.0"."""
    name = device.resolve().name
    return name if re.fullmatch(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", name) else None


def _driver(device: Path) -> str:
    try:
        return (device / "driver").resolve(strict=True).name
    except OSError:
        return "unknown"


def _render_minor(device: Path) -> int | None:
    nodes = children(device / "drm", "renderD*")
    number = nodes[0].name.removeprefix("renderD") if nodes else ""
    return int(number) if number.isdigit() else None
