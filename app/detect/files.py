"""Reading one small file of /proc or /sys, where a missing or odd file is an answer and never an error."""

from __future__ import annotations

from pathlib import Path

# The largest file read is /proc/cpuinfo, about 1.5 kB a thread: 4 MiB is a machine of 2,500 threads.
_LIMIT_BYTES = 4 * 2**20


def read_text(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return file.read(_LIMIT_BYTES).decode("utf-8", "replace").strip("\x00\n ")
    except OSError:
        return None


def read_int(path: Path) -> int | None:
    text = read_text(path)
    if text is None:
        return None
    try:
        return int(text, 0)
    except ValueError:
        return None


def children(folder: Path, pattern: str) -> list[Path]:
    try:
        return sorted(folder.glob(pattern))
    except OSError:
        return []
