"""A machine from what its own tools print, for people who plan for a computer that trainfit does not run on.

Read are nvidia-smi, rocm-smi, amd-smi, system_profiler, lscpu, free, df, and the line of `trainfit doctor --describe`.
Each pattern looks at one line and repeats no group inside another. Nothing of a text is run, kept or trusted: sizes and
counts have limits, and names are only compared.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final

from pydantic import TypeAdapter, ValidationError

from app.detect.found import DetectedMachine, FoundCpu, FoundDevice, FoundMemory
from planner.units import GIB, KIB, MIB

MAXIMUM_CHARACTERS: Final = 65_536
MAXIMUM_DEVICES: Final = 64
MARK: Final = "trainfit-machine-1 "
COMMANDS: Final[Mapping[str, str]] = {
    "Linux": "nvidia-smi --query-gpu=name,memory.total,memory.used --format=csv,noheader; "
    "rocm-smi --showproductname --showmeminfo vram; lscpu; free -b; df -B1 --output=avail .",
    "macOS": "system_profiler SPHardwareDataType SPDisplaysDataType; sw_vers; df -k .",
    "Windows": "nvidia-smi --query-gpu=name,memory.total,memory.used --format=csv,noheader",
    "With trainfit": "trainfit doctor --describe",
}
"""System -> the line whose output says all; what is not installed prints an error, which is passed over."""


class Undescribed(ValueError):
    """The text describes no machine."""


def read_machine(text: str) -> DetectedMachine:
    """The machine that a pasted text describes.

    Raises:
        Undescribed: it is too long, or no tool that is known wrote it.
    """
    if len(text) > MAXIMUM_CHARACTERS:
        raise Undescribed(f"the text has {len(text):,} characters; accepted: at most {MAXIMUM_CHARACTERS:,}")
    lines = [line[:1000].rstrip() for line in text.splitlines()]
    marked = next((line for line in lines if line.startswith(MARK)), None)
    if marked is not None:
        return _marked(text[text.index(MARK) + len(MARK) :].splitlines()[0])
    devices = [*_nvidia(lines), *_rocm(lines), *_amd(lines)][:MAXIMUM_DEVICES]
    mac = _mac(lines)
    found = mac or DetectedMachine(system="pasted", cpu=_lscpu(lines), memory=_free(lines))
    found = DetectedMachine(
        system=found.system,
        cpu=found.cpu,
        memory=found.memory,
        disk_free_bytes=_df(lines),
        macos_major=found.macos_major,
        devices=(*found.devices, *devices),
    )
    if not found.devices and (found.cpu is None or found.memory is None):
        raise Undescribed(
            "no machine was recognised; accepted: the output of one of the lines, or of nvidia-smi --query-gpu, "
            "rocm-smi, amd-smi static, system_profiler, or lscpu together with free -b"
        )
    return found


_DETECTED: Final = TypeAdapter(DetectedMachine)


def _marked(text: str) -> DetectedMachine:
    try:
        found = _DETECTED.validate_json(text)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise Undescribed(f"the line of `trainfit doctor --describe` is not whole: `{where}` cannot be read") from error
    if len(found.devices) > MAXIMUM_DEVICES or not _plausible(found):
        raise Undescribed("the line of `trainfit doctor --describe` has sizes that no machine has")
    return found


def _plausible(found: DetectedMachine) -> bool:
    memory = found.memory
    sizes = [found.disk_free_bytes, *(size for d in found.devices for size in (d.memory_total_bytes, d.used_bytes))]
    sizes += [] if memory is None else [memory.total_bytes, memory.available_bytes, memory.installed_bytes]
    counts = [device.tiles for device in found.devices] + (
        [found.cpu.cores, found.cpu.cores_present] if found.cpu else []
    )
    return all(size is None or 0 <= size < 2**60 for size in sizes) and all(1 <= count <= 4096 for count in counts)


def described(found: DetectedMachine) -> str:
    """The line that `read_machine` reads back: without serial numbers, which nobody needs."""
    plain = [TypeAdapter(FoundDevice).dump_python(device) | {"uuid": None} for device in found.devices]
    anonymous = _DETECTED.validate_python({**found.to_json(), "devices": plain, "reasons": {}})
    return MARK + _DETECTED.dump_json(anonymous).decode()


# -- accelerators -----------------------------------------------------------------------------------------------------

_NVIDIA: Final = re.compile(r"^([^,]{2,80}), ([0-9]{1,8}) MiB, ([0-9]{1,8}) MiB(?:,.*)?$")
_NVIDIA_LISTED: Final = re.compile(r"^GPU [0-9]{1,3}: ([^()]{2,80}?) \(UUID: ")
_ROCM: Final = re.compile(r"^GPU\[([0-9]{1,3})\]\s*: ([^:]{1,60}):\s*(.{1,100})$")
_AMD_GPU: Final = re.compile(r"^GPU: ([0-9]{1,3})$")
_FIELD: Final = re.compile(r"^\s*([A-Za-z_ ()]{1,40}): +(.{1,200})$")


def _nvidia(lines: Sequence[str]) -> Iterator[FoundDevice]:
    """`--query-gpu=name,memory.total,memory.used`, or the names of `nvidia-smi -L`."""
    rows = [match for line in lines if (match := _NVIDIA.match(line))]
    for row in rows:
        total, used = int(row[2]) * MIB, int(row[3]) * MIB
        name = row[1].strip()
        yield FoundDevice(vendor="nvidia", kind="gpu", name=name, memory_total_bytes=total, used_bytes=used)
    if not rows:
        for match in (match for line in lines if (match := _NVIDIA_LISTED.match(line))):
            yield FoundDevice(vendor="nvidia", kind="gpu", name=match[1].strip())


def _rocm(lines: Sequence[str]) -> Iterator[FoundDevice]:
    """rocm-smi: `GPU[0] : Card Model: 0x744c`, `GFX Version: gfx1100`, `VRAM Total Memory (B): 25753026560`."""
    fields: dict[str, dict[str, str]] = {}
    for match in (match for line in lines if (match := _ROCM.match(line))):
        fields.setdefault(match[1], {})[match[2].strip()] = match[3].strip()
    for card in fields.values():
        model = re.fullmatch(r"0x([0-9a-f]{4})", card.get("Card Model", "").lower())
        revision = re.fullmatch(r"0x([0-9a-f]{2})", card.get("Device Rev", "").lower())
        pci = None if model is None else f"1002:{model[1]}" + (f":{revision[1]}" if revision else "")
        total, used = (_whole(card.get(f"VRAM Total {kind}Memory (B)", "")) for kind in ("", "Used "))
        if total is not None:
            yield FoundDevice(
                vendor="amd", kind="gpu", name=card.get("Card Series", "AMD device"), pci_id=pci,
                architecture=card.get("GFX Version"), memory_total_bytes=total, used_bytes=used,
            )  # fmt: skip


def _amd(lines: Sequence[str]) -> Iterator[FoundDevice]:
    """`amd-smi static`: MARKET_NAME, DEVICE_ID and REV_ID under ASIC, SIZE in MB, which are MiB, under VRAM."""
    cards: list[dict[str, str]] = []
    for line in lines:
        if _AMD_GPU.match(line):
            cards.append({})
        elif cards and (match := _FIELD.match(line)):
            cards[-1].setdefault(match[1].strip(), match[2].strip())
    for card in cards:
        size = re.fullmatch(r"([0-9]{1,8}) MB", card.get("SIZE", ""))
        device = re.fullmatch(r"0x([0-9a-f]{4})", card.get("DEVICE_ID", "").lower())
        revision = re.fullmatch(r"0x([0-9a-f]{2})", card.get("REV_ID", "").lower())
        if size is not None:
            pci = None if device is None else f"1002:{device[1]}" + (f":{revision[1]}" if revision else "")
            yield FoundDevice(
                vendor="amd", kind="gpu", name=card.get("MARKET_NAME", "AMD device"), pci_id=pci,
                architecture=card.get("TARGET_GRAPHICS_VERSION"), memory_total_bytes=int(size[1]) * MIB,
            )  # fmt: skip


def _whole(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 18 else None


# -- the computer -----------------------------------------------------------------------------------------------------


def _mac(lines: Sequence[str]) -> DetectedMachine | None:
    """system_profiler: Chip, Memory and Total Number of Cores; sw_vers: ProductVersion. Apple writes GB for GiB."""
    fields: dict[str, str] = {}
    for match in (match for line in lines if (match := _FIELD.match(line.replace("\t", " ")))):
        fields.setdefault(match[1].strip(), match[2].strip())
    memory = re.fullmatch(r"([0-9]{1,5}) GB", fields.get("Memory", ""))
    chip, version = fields.get("Chip", ""), re.match(r"([0-9]{1,3})", fields.get("ProductVersion", ""))
    if memory is None or not chip.startswith("Apple "):
        return None
    total = int(memory[1]) * GIB
    return DetectedMachine(
        system="macOS",
        memory=FoundMemory(total, total, total),
        macos_major=int(version[1]) if version else None,
        devices=(FoundDevice(vendor="apple", kind="apple", name=chip),),
    )


_VENDOR_NAMES: Final = {
    "GenuineIntel": "intel",
    "AuthenticAMD": "amd",
    "ARM": "arm",
    "Apple": "apple",
    "Ampere": "ampere",
}


def _lscpu(lines: Sequence[str]) -> FoundCpu | None:
    fields: dict[str, str] = {}
    for name, colon, value in (line.partition(":") for line in lines):
        if colon and len(name) < 40:
            fields.setdefault(name.strip(), value.strip()[:4000])
    per_socket, sockets = _whole(fields.get("Core(s) per socket", "")), _whole(fields.get("Socket(s)", "1"))
    threads, name = _whole(fields.get("CPU(s)", "")), fields.get("Model name", "")
    if not per_socket or not threads or not name or per_socket * (sockets or 1) > 4096:
        return None
    cores = per_socket * (sockets or 1)
    return FoundCpu(
        name=" ".join(name.split())[:120],
        vendor=_VENDOR_NAMES.get(fields.get("Vendor ID", ""), "unknown"),
        cores=cores,
        cores_present=cores,
        threads=threads,
        hertz=_hertz(fields),
        family=_whole(fields.get("CPU family", "")),
        flags=tuple(sorted(set(fields.get("Flags", "").split()))),
    )


def _hertz(fields: Mapping[str, str]) -> int | None:
    """The base clock: the name's, else the rate of x86's time stamp counter, which BogoMIPS is twice of."""
    in_name = re.search(r"@ ([0-9]{1,2}(?:\.[0-9]{1,3})?)GHz", fields.get("Model name", ""))
    if in_name:
        return round(float(in_name[1]) * 1e9)
    counter = re.fullmatch(r"[0-9]{3,6}(?:\.[0-9]{1,4})?", fields.get("BogoMIPS", ""))
    x86 = fields.get("Architecture", "x86_64") == "x86_64"
    return round(float(counter[0]) / 2 * 1e6) if counter and x86 else None


_FREE: Final = re.compile(r"^Mem: +([0-9]{6,16}) +[0-9]{1,16} +[0-9]{1,16} +[0-9]{1,16} +[0-9]{1,16} +([0-9]{1,16})$")


def _free(lines: Sequence[str]) -> FoundMemory | None:
    """`free -b`: total in the first column, available in the last."""
    match = next((match for line in lines if (match := _FREE.match(line))), None)
    return None if match is None else FoundMemory(int(match[1]), int(match[2]), int(match[1]))


_DF_MAC: Final = re.compile(r"^/dev/\S{1,60} +[0-9]{1,16} +[0-9]{1,16} +([0-9]{1,16}) ")


def _df(lines: Sequence[str]) -> int | None:
    """`df -B1 --output=avail .`: a number under Avail; `df -k .`: the fourth column, in KiB."""
    for title, value in pairwise(lines):
        if title.strip() == "Avail" and value.strip().isdecimal() and len(value.strip()) < 18:
            return int(value.strip())
    match = next((match for line in lines if (match := _DF_MAC.match(line))), None)
    return None if match is None else int(match[1]) * KIB
