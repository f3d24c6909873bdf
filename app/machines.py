"""The machines that the faces show: this one, looked at now and then, and those of the catalogue."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from app.web.numbers import gib
from planner.catalog.offers import Offer, UnknownOffer, offer
from planner.contract import DeviceFigures, MachineRequest
from planner.hardware import THIS_MACHINE, DeviceProfile, Machine, UnknownDevice, all_devices, device
from planner.units import GIB

FRESH_SECONDS = 10.0
"""How long what was seen of this machine holds: free memory changes, but not between two questions."""

VENDOR_NAMES = {
    "nvidia": "NVIDIA",
    "amd": "AMD",
    "intel": "Intel",
    "apple": "Apple",
    "google": "Google",
    "aws": "Amazon",
    "habana": "Intel Gaudi",
}


class ThisMachine:
    """What is seen of this machine; looking takes time, so a look holds for some seconds."""

    def __init__(self, look: Callable[[], Machine | None], fresh_seconds: float = FRESH_SECONDS) -> None:
        self._look = look
        self._fresh_seconds = fresh_seconds
        self._lock = threading.Lock()
        self._seen: Machine | None = None
        self._seen_at: float | None = None

    def __call__(self) -> Machine | None:
        with self._lock:
            now = time.monotonic()
            if self._seen_at is None or now - self._seen_at > self._fresh_seconds:
                self._seen, self._seen_at = self._look(), now
            return self._seen


@dataclass(frozen=True, slots=True)
class Shown:
    """This machine in words."""

    name: str
    summary: str


def shown(machine: Machine | None) -> Shown | None:
    """A detected machine in words, None when it could not be looked at."""
    if machine is None:
        return None
    count = f"{machine.device_count} × " if machine.device_count > 1 else ""
    facts = [f"{gib(machine.usable_bytes)} usable"]
    if machine.device.kind == "cpu":
        facts.append(
            "no GPU seen" if machine.device.host is None else f"{machine.device.host.cores} cores, no GPU seen"
        )
    elif machine.host_usable_bytes is not None and not machine.shared_with_host:
        facts.append(f"{gib(machine.host_usable_bytes)} of host memory free")
    if machine.disk_free_bytes is not None:
        facts.append(f"{gib(machine.disk_free_bytes)} of disk free")
    return Shown(f"{count}{machine.device.display_name}", ", ".join(facts))


@cache
def groups() -> list[tuple[str, list[DeviceProfile]]]:
    """The catalogue's devices by vendor, newest first, for the form."""
    found: dict[str, list[DeviceProfile]] = {}
    for item in sorted(all_devices(), key=lambda item: (-(item.release_year or 0), item.name)):
        found.setdefault(VENDOR_NAMES.get(item.vendor, item.vendor), []).append(item)
    order = {name: position for position, name in enumerate(VENDOR_NAMES.values())}
    return sorted(found.items(), key=lambda entry: order.get(entry[0], len(order)))


def name_of(request: MachineRequest, machine_label: str) -> str:
    """What a page calls the machine of a plan."""
    if request.offer is not None:
        return offer_name(request.offer)
    count = f"{request.device_count} × " if request.device_count > 1 else ""
    if isinstance(request.device, DeviceFigures):
        return count + request.device.name
    if request.device == THIS_MACHINE:
        return machine_label.lower()
    try:
        return count + device(request.device).display_name
    except UnknownDevice:
        return count + request.device


def values_of(machine: Machine) -> dict[str, str]:
    """A described machine as the form's values: its id and what differs from the catalogue, or its own figures."""
    profile, total = machine.device, machine.memory_total_bytes
    values = {"device": profile.id}
    if profile.id in ("unknown", "this-cpu"):
        values = {
            "device.name": profile.name,
            "device.vendor": profile.vendor,
            "device.kind": profile.kind,
            "device.memory_gib": _gib(total),
        }
        rates = {"device.memory_bandwidth_gb_s": profile.memory_bandwidth_bytes_per_second}
        rates |= {f"device.tflops_{name}": profile.peak_flops.get(name) for name in ("bfloat16", "float16", "float32")}
        scales = {name: 1e9 if "bandwidth" in name else 1e12 for name in rates}
        values |= {name: f"{rate / scales[name]:.4g}" for name, rate in rates.items() if rate}
    elif profile.memory_total_bytes is not None and profile.memory_total_bytes != total:
        values["device_memory_gib"] = _gib(total)
    if machine.device_count > 1:
        values["device_count"] = str(machine.device_count)
    if machine.host_memory_bytes is not None:
        values["host_memory_gib"] = _gib(machine.host_memory_bytes)
    if machine.disk_free_bytes is not None:
        values["disk_free_gib"] = _gib(machine.disk_free_bytes)
    return values


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / GIB:.2f}".rstrip("0").rstrip(".")


def offer_name(offer_id: str) -> str:
    """What a page calls a rented machine: the offer, and the devices that are in it."""
    try:
        rented = offer(offer_id)
    except UnknownOffer:
        return offer_id
    return f"{rented.full_name}: {devices_of(rented)}" if rented.device_id else rented.full_name


def count_of(request: MachineRequest) -> int:
    """How many devices the machine of a request has: as many as its offer, while the catalogue holds that."""
    if request.offer is None:
        return request.device_count
    try:
        return offer(request.offer).device_count or request.device_count
    except UnknownOffer:
        return request.device_count


def devices_of(rented: Offer) -> str:
    """The devices of an offer."""
    count = f"{rented.device_count} × " if (rented.device_count or 1) > 1 else ""
    return count + device(rented.device_id or "").display_name
