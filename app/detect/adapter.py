"""The graphics adapter that a browser reports, as devices of the catalogue; an exact name, or nothing.

WebGL's UNMASKED_RENDERER_WEBGL and WebGPU's adapter.info hold a driver's name in the wrapping of the browser's layers.
What is taken off is listed here; what is left must be a device's own name, or its PCI id that Direct3D's wrapping adds.
Firefox names a family ("GeForce GTX 980, or similar"), Safari says "Apple GPU": those name no device.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from planner.hardware import DeviceProfile, match_pci, named

MAXIMUM_CHARACTERS: Final = 300
_ANGLE: Final = re.compile(r"ANGLE \(([^,()]{1,60}), (.{1,200})\)", re.DOTALL)
_AFTER: Final = (
    re.compile(r" (?:Direct3D|OpenGL|Vulkan|D3D)[0-9. ].*$"),
    re.compile(r", (?:Unspecified Version|OpenGL.*|D3D.*|Vulkan.*|Version .*|or similar.*)$"),
    re.compile(r"/PCIe/SSE2.*$"),
    re.compile(r" \((?:radeonsi|RADV|navi|gfx|DG2|LLVM|0x)[^()]*\).*$", re.IGNORECASE),
)
_BEFORE: Final = (
    re.compile(r"^ANGLE Metal Renderer: "),
    re.compile(r"^Vulkan [0-9.]+ \("),
    re.compile(r"^Mesa (?=Intel|AMD)"),
)
_PCI: Final = re.compile(r"\(0x0{0,4}([0-9A-Fa-f]{4})\)")
_VENDORS: Final = {"NVIDIA": "10de", "AMD": "1002", "Intel": "8086"}
_SOFTWARE: Final = re.compile(r"SwiftShader|llvmpipe|Microsoft Basic Render|softpipe", re.IGNORECASE)
_HIDDEN: Final = re.compile(r"^Apple GPU$|^WebKit WebGL$|, or similar|^Mozilla$")


@dataclass(frozen=True, slots=True)
class Adapter:
    """What a browser said: the name without its wrapping, the devices of that name, and why there are none."""

    said: str
    name: str
    devices: Sequence[DeviceProfile]
    why: str


def read_adapter(said: str) -> Adapter:
    """The devices that a browser's text names."""
    text = " ".join(said[:MAXIMUM_CHARACTERS].split())
    name = _unwrapped(text)
    if not text:
        return Adapter(text, name, (), "The browser reports no graphics adapter.")
    if _SOFTWARE.search(text):
        return Adapter(text, name, (), "The browser draws without a graphics card: it says nothing about one.")
    if _HIDDEN.search(text):
        return Adapter(text, name, (), "The browser hides which device it is.")
    devices = tuple(_by_pci(text)) or tuple(named(name))
    why = "" if devices else "No device of the catalogue has this name."
    return Adapter(text, name, devices, why)


def _unwrapped(text: str) -> str:
    """The driver's name: ANGLE's, Mesa's and the drivers' own additions taken off."""
    angle = _ANGLE.match(text)
    name = angle[2] if angle else text
    for pattern in _BEFORE:
        name = pattern.sub("", name)
    for pattern in (*_AFTER, _PCI):
        name = pattern.sub("", name).strip()
    return name


def _by_pci(text: str) -> Iterator[DeviceProfile]:
    angle, found = _ANGLE.match(text), _PCI.search(text)
    vendor = _VENDORS.get(angle[1]) if angle else None
    if vendor is not None and found is not None:
        known = match_pci(f"{vendor}:{found[1].lower()}")
        if known is not None:
            yield known
