"""Figures from pasted texts: nvidia-smi, torch.cuda.memory_summary(), an OutOfMemoryError, a trainer's log lines.

Every pattern is anchored on words that only one tool prints, looks at one line, and repeats no group inside another,
so that no text takes more than time in proportion to its length.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from planner.units import GIB, MIB, parse_size

MAXIMUM_CHARACTERS: Final = 65_536
_MAXIMUM_LINE: Final = 4_000
_SIZE: Final = r"([0-9]{1,9}(?:\.[0-9]{1,6})?) ?((?:[KMGT]i?)?B|bytes)"


class Unreadable(ValueError):
    """The text holds no figure that is known here."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What a text says, in bytes and seconds; None where it says nothing. `sources` names the tools that were seen.

    `allocated`, `reserved` and `process` are peaks of one process on one device; `device_used` is the device's use by
    all processes when somebody looked, `others` the use by processes that are not ours. `tried` is the allocation that
    failed: the run needed at least `allocated` + `tried`.
    """

    sources: tuple[str, ...] = ()
    allocated: int | None = None
    reserved: int | None = None
    process: int | None = None
    device_used: int | None = None
    device_total: int | None = None
    others: int | None = None
    tried: int | None = None
    seconds_per_step: float | None = None
    tokens_per_second: float | None = None
    retries: int | None = None

    @property
    def out_of_memory(self) -> bool:
        """Whether the run ended because an allocation failed."""
        return self.tried is not None


def read(text: str) -> Observation:
    """What a pasted text says.

    Raises:
        Unreadable: it is longer than MAXIMUM_CHARACTERS, or none of the tools that are known wrote it.
    """
    if len(text) > MAXIMUM_CHARACTERS:
        raise Unreadable(f"the text has {len(text):,} characters; accepted: at most {MAXIMUM_CHARACTERS:,}")
    lines = [line[:_MAXIMUM_LINE] for line in text.splitlines()]
    found = Observation()
    for reader in (_out_of_memory, _summary, _nvidia_smi, _trainer):
        found = reader(lines, found)
    if not found.sources:
        raise Unreadable(
            "no figure was recognised; accepted: the output of nvidia-smi, torch.cuda.memory_summary(), an "
            "OutOfMemoryError's message, or a trainer's log lines"
        )
    return found


def _bytes(number: str, unit: str) -> int:
    return parse_size(f"{number} {unit}")


def _first(pattern: re.Pattern[str], lines: Iterable[str]) -> int | None:
    """The size that a pattern's two groups name, in the first line that has it."""
    match = next((match for line in lines if (match := pattern.search(line))), None)
    return None if match is None else _bytes(match[1], match[2])


def _most(pattern: re.Pattern[str], lines: Iterable[str]) -> int | None:
    """The largest size that a pattern's two groups name."""
    sizes = [_bytes(number, unit) for line in lines for number, unit in pattern.findall(line)]
    return max(sizes, default=None)


# -- torch.OutOfMemoryError -------------------------------------------------------------------------------------------

_TRIED: Final = re.compile(rf"out of memory\. Tried to allocate {_SIZE}", re.IGNORECASE)
_CAPACITY: Final = re.compile(rf"total capacity of {_SIZE}")
_OLD_CAPACITY: Final = re.compile(rf"; {_SIZE} total capacity")
_FREE: Final = re.compile(rf"of which {_SIZE} is free")
_OURS: Final = re.compile(rf"this process has {_SIZE} memory in use")
_BY_PYTORCH: Final = re.compile(rf"Of the allocated memory {_SIZE} is allocated by PyTorch")
_CACHED: Final = re.compile(rf"{_SIZE} is reserved by PyTorch but unallocated")
_OLD_ALLOCATED: Final = re.compile(rf"{_SIZE} already allocated")
_OLD_RESERVED: Final = re.compile(rf"{_SIZE} reserved in total by PyTorch")
_OTHER: Final = re.compile(rf"Process [0-9]{{1,10}} has {_SIZE} memory in use")


def _out_of_memory(lines: list[str], found: Observation) -> Observation:
    """c10/cuda/CUDACachingAllocator.cpp prints one sentence; older releases another, with the same figures."""
    text = [" ".join(lines)] if any("out of memory" in line.lower() for line in lines) else []
    tried = _first(_TRIED, text)
    if tried is None:
        return found
    allocated = _first(_BY_PYTORCH, text) or _first(_OLD_ALLOCATED, text)
    cached = _first(_CACHED, text)
    total = _first(_CAPACITY, text) or _first(_OLD_CAPACITY, text)
    free = _first(_FREE, text)
    reserved = allocated + cached if allocated is not None and cached is not None else _first(_OLD_RESERVED, text)
    process, others = _ours_and_others(text[0], reserved)
    return replace(
        found,
        sources=(*found.sources, "out-of-memory message"),
        tried=tried,
        allocated=allocated,
        reserved=reserved,
        process=process,
        device_total=total,
        device_used=None if total is None or free is None else total - free,
        others=others,
    )


def _ours_and_others(text: str, reserved: int | None) -> tuple[int | None, int | None]:
    """What this process holds, and what others do.

    In a container the driver names processes by the host's numbers, so that PyTorch does not find its own and lists it
    among the others: there the largest one that holds what PyTorch has reserved is the run itself.
    """
    others = sorted(_bytes(number, unit) for number, unit in _OTHER.findall(text))
    process = _first(_OURS, [text])
    if process is None and reserved is not None and others and others[-1] >= reserved:
        process = others.pop()
    return process, sum(others) or None


# -- torch.cuda.memory_summary() --------------------------------------------------------------------------------------

_ROW: Final = re.compile(rf"^\| *(Allocated memory|GPU reserved memory) *\| *{_SIZE} *\| *{_SIZE} *\|")
_RETRIES: Final = re.compile(r"cudaMalloc retries: ([0-9]{1,9})")


def _summary(lines: list[str], found: Observation) -> Observation:
    """The second column is the peak since the process began, or since the statistics were reset."""
    if not any("memory summary" in line for line in lines):
        return found
    peaks = {match[1]: _bytes(match[4], match[5]) for line in lines if (match := _ROW.match(line))}
    retries = next((int(match[1]) for line in lines if (match := _RETRIES.search(line))), None)
    if not peaks:
        return found
    return replace(
        found,
        sources=(*found.sources, "torch.cuda.memory_summary()"),
        allocated=peaks.get("Allocated memory", found.allocated),
        reserved=peaks.get("GPU reserved memory", found.reserved),
        retries=retries,
    )


# -- nvidia-smi -------------------------------------------------------------------------------------------------------

_USE: Final = re.compile(r"\| *([0-9]{1,8})MiB */ *([0-9]{1,8})MiB *\|")
_PROCESS: Final = re.compile(r"^\| +([0-9]{1,3}) .* +([0-9]{1,10}) +(C|G|C\+G) +([^|]{1,200}?) +([0-9]{1,8})MiB +\|$")
_PYTHON: Final = re.compile(r"python|torchrun|accelerate|deepspeed|jupyter|ipykernel", re.IGNORECASE)


def _nvidia_smi(lines: list[str], found: Observation) -> Observation:
    """The table's use of the fullest device, and its processes: the largest Python one is taken to be the run."""
    devices = [(int(used) * MIB, int(total) * MIB) for line in lines for used, total in _USE.findall(line)]
    if not devices:
        return found
    used, total = max(devices)
    index = devices.index((used, total))
    sizes = sorted(_processes(lines, index), reverse=True)
    ours = next((size for size, name in sizes if _PYTHON.search(name)), None)
    listed = sum(size for size, _ in sizes)
    return replace(
        found,
        sources=(*found.sources, "nvidia-smi"),
        process=ours or found.process,
        device_used=used,
        device_total=total,
        others=listed - ours if ours is not None else found.others,
    )


def _processes(lines: Iterable[str], device: int) -> Iterator[tuple[int, str]]:
    """Bytes and name of each process of one device, in nvidia-smi's own numbers of devices."""
    for line in lines:
        match = _PROCESS.match(line.rstrip())
        if match and int(match[1]) == device:
            yield int(match[5]) * MIB, match[4]


# -- trainers' logs ---------------------------------------------------------------------------------------------------

_PER_STEP: Final = re.compile(r"\[[0-9:]{4,9}<[0-9:?]{1,9}, +([0-9]{1,6}(?:\.[0-9]{1,4})?)(s/it|it/s)")
_STEPS_PER_SECOND: Final = re.compile(r"train_steps_per_second'?:? '?([0-9]{1,6}(?:\.[0-9]{1,6})?)")
_TOKENS: Final = re.compile(
    r"(?:\btps|tokens_per_second(?:_per_gpu)?|train_tokens_per_second|tokens/s(?:ec)?)"
    r"'?[:=]? *'?([0-9][0-9,]{0,11}(?:\.[0-9]{1,6})?)"
)
_LOGGED: Final = {
    "allocated": re.compile(
        r"(?:max_(?:mem_)?(?:active|allocated)|peak_memory_(?:active|alloc))[^0-9\n]{1,12}([0-9]{1,6}(?:\.[0-9]{1,6})?)",
        re.IGNORECASE,
    ),
    "reserved": re.compile(
        r"(?:device_(?:mem_)?reserved|peak_memory_reserved|max_reserved)[^0-9\n]{1,12}([0-9]{1,6}(?:\.[0-9]{1,6})?)",
        re.IGNORECASE,
    ),
}
_TORCHTITAN: Final = re.compile(rf"\bmemory: +{_SIZE}")
_UNSLOTH: Final = re.compile(rf"Peak reserved memory(?: for training)? = {_SIZE}")
_LITGPT: Final = re.compile(rf"Memory used: {_SIZE}")


def _trainer(lines: list[str], found: Observation) -> Observation:
    """Speed and peaks as transformers, trl, axolotl, torchtitan, torchtune, litgpt and Unsloth log them.

    axolotl and torchtune write GiB; torchtitan's, litgpt's and Unsloth's lines name a unit.
    """
    allocated = _largest_gib(_LOGGED["allocated"], lines) or _most(_LITGPT, lines)
    reserved = _largest_gib(_LOGGED["reserved"], lines) or _most(_TORCHTITAN, lines) or _most(_UNSLOTH, lines)
    seconds = _seconds_per_step(lines)
    tokens = [float(text.replace(",", "")) for line in lines for text in _TOKENS.findall(line)]
    if allocated is None and reserved is None and seconds is None and not tokens:
        return found
    return replace(
        found,
        sources=(*found.sources, "trainer's log"),
        allocated=found.allocated or allocated,
        reserved=found.reserved or reserved,
        seconds_per_step=seconds,
        tokens_per_second=tokens[-1] if tokens and tokens[-1] > 0 else None,
    )


def _largest_gib(pattern: re.Pattern[str], lines: Iterable[str]) -> int | None:
    values = [float(text) for line in lines for text in pattern.findall(line)]
    return round(max(values) * GIB) if values and max(values) > 0 else None


def _seconds_per_step(lines: list[str]) -> float | None:
    """tqdm's last rate, else the Trainer's summary."""
    rates = [match for line in lines for match in _PER_STEP.findall(line)]
    if rates and float(rates[-1][0]) > 0:
        value = float(rates[-1][0])
        return value if rates[-1][1] == "s/it" else 1 / value
    each = [float(text) for line in lines for text in _STEPS_PER_SECOND.findall(line)]
    return 1 / each[-1] if each and each[-1] > 0 else None
