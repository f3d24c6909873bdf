"""AMD devices by what amdgpu and KFD show under /sys: exact gfx name, memory total and used, GTT."""

from __future__ import annotations

import re
from pathlib import Path

from app.detect.drm import Card, cards
from app.detect.files import children, read_int, read_text
from app.detect.found import FoundDevice, Probe

AMD_VENDOR = 0x1002
# Graphics inside a processor: no memory of its own (LLVM's AMDGPU processor table marks them "APU").
_INTEGRATED = {"gfx902", "gfx909", "gfx90c", "gfx1033", "gfx1035", "gfx1036", "gfx1103"} | {
    "gfx1150",
    "gfx1151",
    "gfx1152",
    "gfx1153",
}
_NAMES = Path("/usr/share/libdrm/amdgpu.ids")


def probe_amd(sys: Path, names: Path = _NAMES) -> Probe:
    """Every card of the amdgpu driver; `names` is libdrm's list of marketing names."""
    listed = read_text(names) or ""
    nodes = _nodes(sys)
    found = tuple(_device(card, nodes, listed) for card in cards(sys, AMD_VENDOR))
    return Probe(found, None if found else "no AMD card under /sys/class/drm")


def _device(card: Card, nodes: dict[int, tuple[int, str]], listed: str) -> FoundDevice:
    index, gfx = nodes.get(-1 if card.render_minor is None else card.render_minor, (0, None))
    return FoundDevice(
        vendor="amd",
        kind="apu" if gfx in _INTEGRATED else "gpu",
        name=_name(card, listed),
        driver=card.driver,
        uuid=read_text(card.device / "unique_id"),
        address=card.address,
        index=index,
        pci_id=card.pci_id,
        architecture=gfx,
        memory_total_bytes=read_int(card.device / "mem_info_vram_total"),
        used_bytes=read_int(card.device / "mem_info_vram_used"),
        shared_limit_bytes=read_int(card.device / "mem_info_gtt_total"),
    )


def _name(card: Card, listed: str) -> str:
    product = read_text(card.device / "product_name")
    if product:
        return product
    _, part, revision = card.pci_id.split(":")
    line = re.search(rf"^{part},\s*{revision},\s*(.+)$", listed, re.MULTILINE | re.IGNORECASE)
    return line[1].strip() if line else f"AMD device {card.pci_id}"


def _nodes(sys: Path) -> dict[int, tuple[int, str]]:
    """KFD's nodes with a GPU, by render node: the number that ROCm gives it, its place among them, and its name:
    `gfx_target_version` 90402 is gfx942, 110000 is gfx1100, 90010 is gfx90a."""
    result: dict[int, tuple[int, str]] = {}
    found = children(sys / "class" / "kfd" / "kfd" / "topology" / "nodes", "[0-9]*")
    for node in sorted(found, key=lambda folder: int(folder.name)):
        fields = dict(re.findall(r"^(\w+) (\d+)$", read_text(node / "properties") or "", re.MULTILINE))
        version, minor = int(fields.get("gfx_target_version", 0)), int(fields.get("drm_render_minor", 0))
        if version and minor:
            result[minor] = len(result), f"gfx{version // 10000}{version // 100 % 100:x}{version % 100:x}"
    return result
