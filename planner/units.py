"""Bytes inside, GiB at the edge: parsing and printing of quantities, in one place.

GiB is 2**30 bytes and GB is 10**9 bytes; they are never mixed. Everything the planner computes with is an
integer number of bytes, and only the functions below turn text into bytes or bytes into text.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

KIB: Final = 2**10
MIB: Final = 2**20
GIB: Final = 2**30
TIB: Final = 2**40
KB: Final = 10**3
MB: Final = 10**6
GB: Final = 10**9
TB: Final = 10**12

MAX_BYTES: Final = 2**63 - 1
"""Largest size accepted: what a signed 64-bit field (SQLite, int64 arrays) can hold."""

_FACTORS: Final = {
    "": 1,
    "b": 1,
    "byte": 1,
    "bytes": 1,
    "kib": KIB,
    "mib": MIB,
    "gib": GIB,
    "tib": TIB,
    "kb": KB,
    "mb": MB,
    "gb": GB,
    "tb": TB,
}
_SIZE: Final = re.compile(r"\s*([0-9]{1,24}(?:\.[0-9]{1,24})?)\s*([A-Za-z]{0,5})\s*", re.ASCII)
_ACCEPTED: Final = "a number of bytes, or a number with KiB, MiB, GiB, TiB (binary) or KB, MB, GB, TB (decimal)"


def parse_size(text: str) -> int:
    """Return the bytes that `text` names: "24GiB" is 24 * 2**30, "24 GB" is 24 * 10**9, "1024" is 1024.

    Units are case-insensitive; a fraction of a byte is dropped. A bare "G" or "M" is refused, because half of
    the tools mean 10**9 by it and half mean 2**30.

    Raises:
        ValueError: no number, a sign, an unknown unit, or more than 2**63 - 1 bytes; says what is accepted.
    """
    match = _SIZE.fullmatch(text)
    factor = _FACTORS.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise ValueError(f"{text[:40]!r} is not a size: give {_ACCEPTED}")
    size_bytes = int(Decimal(match[1]) * factor)
    if size_bytes > MAX_BYTES:
        raise ValueError(f"{text[:40]!r} is more than 2**63 - 1 bytes: give {_ACCEPTED}")
    return size_bytes


def gib_to_bytes(gib: float) -> int:
    """Return `gib` * 2**30, rounded to a byte.

    Raises:
        ValueError: `gib` is negative, not finite, or more than 2**63 - 1 bytes.
    """
    if not 0 <= gib <= MAX_BYTES / GIB:
        raise ValueError(f"{gib!r} GiB is not a size: give a number from 0 to {MAX_BYTES // GIB}")
    return min(round(gib * GIB), MAX_BYTES)


def format_bytes(size_bytes: int) -> str:
    """Return `size_bytes` in the largest unit up to GiB that keeps it at 1 or more: "3.1 GiB", "512 B", "1,536.0 GiB".

    Memory of machines is said in GiB, however much it is, so that one sentence or table has one unit.
    """
    magnitude = abs(size_bytes)
    for factor, unit in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        # 1,023.95 of the smaller unit would print as 1,024.0 of it: there the larger one begins.
        if magnitude >= factor - factor // 20_480:
            return f"{size_bytes / factor:,.1f} {unit}"
    return f"{size_bytes} B"


def format_seconds(seconds: float) -> str:
    """Return a duration with the two units a person would say: "9 h 05 min", "3 min 20 s", "1.5 s", "12 ms"."""
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    for size, unit, minor_size, minor_unit in (
        (86_400, "d", 3_600, "h"),
        (3_600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            return f"{whole // size:,} {unit} {whole % size // minor_size:02d} {minor_unit}"
    return f"{whole} s"


def format_count(count: int) -> str:
    """Return a count of parameters or tokens with three digits: "8.03 B" for 8,030,261,248, "125 M", "512"."""
    for factor, unit in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K")):
        if abs(count) >= factor:
            scaled = count / factor
            digits = 2 if abs(scaled) < 10 else 1 if abs(scaled) < 100 else 0
            return f"{scaled:.{digits}f} {unit}"
    return str(count)
