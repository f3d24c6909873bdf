"""The machine of a request: a device, how many of them, and the memory and disk around it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final, Literal

from planner.catalog.offers import Offer, UnknownOffer, offer
from planner.contract import DeviceFigures, MachineRequest
from planner.hardware.apple import DEFAULT_MACOS, working_set_bytes
from planner.hardware.calibration import Calibration
from planner.hardware.described import described_device
from planner.hardware.devices import device
from planner.hardware.errors import MachineError, UnknownMachineOffer
from planner.hardware.profile import DeviceProfile
from planner.units import GIB, format_bytes, gib_to_bytes

THIS_MACHINE: Final = "this-machine"
ASSUMED_BYTES_PER_CHANNEL: Final = 16 * GIB
"""A CPU's memory when nobody said: one 16 GiB module in each channel, listed as assumed."""
ASSUMED_CHANNELS: Final = 2


@dataclass(frozen=True, slots=True)
class Rent:
    """The price of an hour of the whole machine, in US dollars, and the offer that it is from, if it is from one."""

    usd_per_hour: float | None
    basis: Literal["offer", "spot", "given"]
    offer: Offer | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A device and what stands around it; all memory is per logical device.

    `memory_total_bytes` is the driver's total after overrides, `system_reserved_bytes` what no framework can take of
    it, `in_use_bytes` what other processes hold (the highest of several devices). Our own context is in none of them.
    `host_usable_bytes` is the host memory that a training process may take; None where nobody said how much there is.
    On a shared pool (`shared_with_host`) both describe the same memory: of one unit, and of all units together.
    `assumed` lists what was filled in, by field. `rent` is what an hour of it costs, None where nobody said.
    `calibration` holds rates that were measured on this very hardware.
    """

    device: DeviceProfile
    device_count: int
    memory_total_bytes: int
    system_reserved_bytes: int
    in_use_bytes: int = 0
    host_memory_bytes: int | None = None
    host_usable_bytes: int | None = None
    disk_free_bytes: int | None = None
    is_this_machine: bool = False
    macos_major: int | None = None
    assumed: Mapping[str, str] = field(default_factory=dict[str, str])
    rent: Rent | None = None
    calibration: Calibration | None = None

    @property
    def logical_devices(self) -> int:
        """Devices that a framework addresses: units x logical devices per unit."""
        return self.device_count * self.device.logical_devices_per_unit

    @property
    def shared_with_host(self) -> bool:
        """Whether device and host memory are one pool."""
        return self.device.shared_with_host

    @property
    def usable_bytes(self) -> int:
        """Bytes of one logical device that a training process may take; see `usable_bytes`."""
        return usable_bytes(self)


def fingerprint_of(machine: Machine) -> str:
    """What tells this hardware from another's, as far as the speed of one device goes: its name, and a host's cores."""
    host = machine.device.host
    return machine.device.name if host is None else f"{machine.device.name}, {host.cores} cores"


def usable_bytes(machine: Machine) -> int:
    """Return total - system reserved - in use by others, at least 0, per logical device.

    The context of our own process is never subtracted: it is part of what the run needs (`outside_allocator`).
    """
    return max(0, machine.memory_total_bytes - machine.system_reserved_bytes - machine.in_use_bytes)


def system_share_bytes(host_memory_bytes: int) -> int:
    """Return what the operating system keeps of a host's memory: 1/16 of it, at least 2 GiB and at most 8.

    The range is the catalogue's ("leave 2-8 GiB for the OS", from memory); the slope between is ours. A host below
    4 GiB keeps half. Where the machine was detected, what is really available counts instead.
    """
    share_bytes = min(max(host_memory_bytes // 16, 2 * GIB), 8 * GIB)
    return min(share_bytes, host_memory_bytes // 2)


def resolve_machine(request: MachineRequest, detected: Machine | None = None) -> Machine:
    """Return the machine that a request names, with the request's own figures over those known.

    Args:
        request: a catalogue id, "this-machine" or a device's own figures; counts, sizes.
        detected: the machine that the server or the command line runs on, for "this-machine".

    Raises:
        UnknownDevice: no such id; names ids that look alike.
        MachineError: "this-machine" where nothing was detected, or more devices than it has; an offer that is not
            known, has another device or fewer of them.
    """
    if detected is not None:
        return _with_rent(request, detected)
    return _of_catalogue(request)  # pyright: ignore[reportArgumentType]  (pydantic hashes what is frozen)


@lru_cache(maxsize=1024)
def _of_catalogue(request: MachineRequest) -> Machine:
    """A machine that only the request describes, made once."""
    return _with_rent(request, None)


def _with_rent(request: MachineRequest, detected: Machine | None) -> Machine:
    rented = None if request.offer is None else _offered(request.offer)
    machine = _resolved(request if rented is None else _with_offer(request, rented), detected)
    rent = _rent(request, rented)
    return machine if rent is None else replace(machine, rent=rent)


def _offered(offer_id: str) -> Offer:
    try:
        found = offer(offer_id)
    except UnknownOffer as error:
        raise UnknownMachineOffer(offer_id, str(error), error.suggestions) from error
    if found.not_planned is not None:
        raise MachineError("machine.offer", f"no run can be planned on {found.full_name}: {found.not_planned}")
    return found


def _with_offer(request: MachineRequest, rented: Offer) -> MachineRequest:
    """The request with the offer's device, all of its devices, and its host's memory where none is given."""
    if request.device not in (THIS_MACHINE, rented.device_id):
        has = f"{rented.full_name} has {rented.device_id}, not {request.device}"
        raise MachineError(
            "machine.device",
            f"{has}; leave machine.device out, or machine.offer",
            value=request.device if isinstance(request.device, str) else request.device.name,
            accepted=f"{rented.device_id}, or nothing",
        )
    if request.device_count not in (1, rented.device_count):
        has = f"{rented.full_name} has {rented.device_count} devices, not {request.device_count}"
        raise MachineError(
            "machine.device_count",
            f"{has}; leave machine.device_count out",
            value=request.device_count,
            accepted=f"{rented.device_count}, or nothing",
        )
    offered: dict[str, Any] = {"device": rented.device_id, "device_count": rented.device_count}
    if request.host_memory_gib is None:
        offered["host_memory_gib"] = rented.host_memory_gib
    return request.model_copy(update=offered)


def _rent(request: MachineRequest, rented: Offer | None) -> Rent | None:
    """The price that was given, else the offer's, on demand or spot."""
    if request.price_usd_per_hour is not None:
        return Rent(request.price_usd_per_hour, "given", rented)
    if rented is None:
        return None
    return Rent(rented.price(spot=request.spot), "spot" if request.spot else "offer", rented)


def _resolved(request: MachineRequest, detected: Machine | None) -> Machine:
    if request.device == THIS_MACHINE:
        return _this_machine(request, detected)
    figures = request.device
    profile = described_device(figures) if isinstance(figures, DeviceFigures) else device(figures)
    if profile.kind == "cpu":
        given_gib = figures.memory_gib if isinstance(figures, DeviceFigures) else None
        return _cpu_machine(profile, request, given_gib)
    if profile.shared_with_host:
        return _shared_machine(profile, request)
    return _discrete_machine(profile, request)


def _this_machine(request: MachineRequest, detected: Machine | None) -> Machine:
    if detected is None:
        raise MachineError("machine.device", "this machine could not be detected: name a device of the catalogue")
    if request.device_count > detected.device_count:
        raise MachineError(
            "machine.device_count",
            f"this machine has {detected.device_count} x {detected.device.display_name}, not {request.device_count}",
            value=request.device_count,
            accepted="1" if detected.device_count == 1 else f"an integer from 1 to {detected.device_count}",
        )
    machine = replace(detected, device_count=request.device_count)
    if request.disk_free_gib is not None:
        machine = replace(machine, disk_free_bytes=gib_to_bytes(request.disk_free_gib))
    if request.device_memory_gib is None and request.host_memory_gib is None:
        return machine
    return _with_other_memory(machine, request)


def _with_other_memory(machine: Machine, request: MachineRequest) -> Machine:
    """Return this machine as if it had the memory that the request gives; what others hold stays as detected."""
    if machine.device.kind == "cpu":
        sized = _cpu_machine(machine.device, request, None)
    elif machine.shared_with_host:
        sized = _shared_machine(machine.device, request, machine.macos_major)
    else:
        profile = replace(
            machine.device,
            memory_total_bytes=machine.memory_total_bytes,
            system_reserved_bytes=machine.system_reserved_bytes,
        )
        sized = _discrete_machine(profile, request)
    keeps_host = request.host_memory_gib is None and not machine.shared_with_host
    return replace(
        machine,
        memory_total_bytes=sized.memory_total_bytes,
        system_reserved_bytes=sized.system_reserved_bytes,
        in_use_bytes=0 if machine.shared_with_host else machine.in_use_bytes,
        host_memory_bytes=machine.host_memory_bytes if keeps_host else sized.host_memory_bytes,
        host_usable_bytes=machine.host_usable_bytes if keeps_host else sized.host_usable_bytes,
        assumed={**machine.assumed, **sized.assumed},
    )


def _discrete_machine(profile: DeviceProfile, request: MachineRequest) -> Machine:
    known_bytes = profile.memory_total_bytes or 0
    total_bytes = _bytes_or(request.device_memory_gib, known_bytes)
    host_bytes = None if request.host_memory_gib is None else gib_to_bytes(request.host_memory_gib)
    return Machine(
        device=profile,
        device_count=request.device_count,
        memory_total_bytes=total_bytes,
        system_reserved_bytes=min(profile.system_reserved_bytes, total_bytes),
        host_memory_bytes=host_bytes,
        host_usable_bytes=None if host_bytes is None else host_bytes - system_share_bytes(host_bytes),
        disk_free_bytes=_disk(request),
        assumed={},
    )


def _shared_machine(profile: DeviceProfile, request: MachineRequest, macos_major: int | None = None) -> Machine:
    """Return a Mac or an APU: one pool, of which the device may take a part.

    Each unit has a pool of its own: its part of the host's memory where that is given, else the device's memory. When
    both are given the device may take its own figure; else Apple's rule, or the catalogue's share of this APU, decides.
    """
    known_bytes = profile.memory_total_bytes or 0
    device_bytes = _bytes_or(request.device_memory_gib, known_bytes)
    units = request.device_count
    pool_bytes = device_bytes if request.host_memory_gib is None else gib_to_bytes(request.host_memory_gib) // units
    if request.device_memory_gib is not None and request.host_memory_gib is not None:
        limit_bytes = min(device_bytes, pool_bytes)
    elif profile.kind == "apple":
        limit_bytes = working_set_bytes(pool_bytes, macos_major or DEFAULT_MACOS)
    else:
        limit_bytes = pool_bytes - _share(profile.system_reserved_bytes, pool_bytes, known_bytes)
    return Machine(
        device=profile,
        device_count=request.device_count,
        memory_total_bytes=pool_bytes,
        system_reserved_bytes=pool_bytes - limit_bytes,
        host_memory_bytes=pool_bytes * units,
        host_usable_bytes=(pool_bytes - system_share_bytes(pool_bytes)) * units,
        disk_free_bytes=_disk(request),
        macos_major=macos_major,
        assumed=_pool_assumptions(profile, request, macos_major),
    )


def _cpu_machine(profile: DeviceProfile, request: MachineRequest, given_gib: float | None) -> Machine:
    """Return a machine that trains on its processor: the capacity is the host's memory."""
    stated_gib = request.host_memory_gib or request.device_memory_gib or given_gib
    assumed: dict[str, str] = {}
    if stated_gib is None:
        channels = (profile.host.memory_channels if profile.host else None) or ASSUMED_CHANNELS
        host_bytes = channels * ASSUMED_BYTES_PER_CHANNEL
        assumed["machine.host_memory_gib"] = (
            f"{format_bytes(host_bytes)}: one 16 GiB module in each of {channels} memory channels; give yours"
        )
    else:
        host_bytes = gib_to_bytes(stated_gib)
    share_bytes = system_share_bytes(host_bytes)
    return Machine(
        device=profile,
        device_count=request.device_count,
        memory_total_bytes=host_bytes,
        system_reserved_bytes=share_bytes,
        host_memory_bytes=host_bytes,
        host_usable_bytes=host_bytes - share_bytes,
        disk_free_bytes=_disk(request),
        assumed=assumed,
    )


def _pool_assumptions(profile: DeviceProfile, request: MachineRequest, macos_major: int | None) -> dict[str, str]:
    assumed: dict[str, str] = {}
    stated = request.device_memory_gib is not None or request.host_memory_gib is not None
    if not stated and profile.memory_basis not in ("given", "detected"):
        options = ", ".join(str(option // GIB) for option in profile.memory_options_bytes)
        sold = f"; sold with {options} GiB, give yours" if options else ""
        assumed["machine.device_memory_gib"] = f"{format_bytes(profile.memory_total_bytes or 0)}{sold}"
    if profile.kind == "apple" and macos_major is None:
        assumed["machine.macos"] = f"macOS {DEFAULT_MACOS} or older, whose limit on GPU memory is the lower one"
    return assumed


def _share(part_bytes: int, pool_bytes: int, whole_bytes: int) -> int:
    return part_bytes * pool_bytes // whole_bytes if whole_bytes else 0


def _bytes_or(gib: float | None, otherwise_bytes: int) -> int:
    return otherwise_bytes if gib is None else gib_to_bytes(gib)


def _disk(request: MachineRequest) -> int | None:
    return None if request.disk_free_gib is None else gib_to_bytes(request.disk_free_gib)
