"""Processes that belong to a job, found by a mark in their environment, and ended without exception.

A mark is inherited by whatever a job starts, also in a session of its own and also after its parent died, and unlike a
process number it is never used twice. torchrun gives each rank its own session, so a process group would miss them.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress

import psutil

WORKER_MARK = "TRAINFIT_WORKER"
JOB_MARK = "TRAINFIT_JOB"
_ROUNDS = 200
_PAUSE_SECONDS = 0.01


def marked(name: str, value: str) -> Iterator[psutil.Process]:
    """Every other process of ours with the mark."""
    own = os.getpid()
    for process in psutil.process_iter():
        try:
            if process.pid != own and process.environ().get(name) == value and process.status() != psutil.STATUS_ZOMBIE:
                yield process
        except (psutil.Error, OSError):  # another user's, or gone
            continue


def end_marked(name: str, value: str) -> int:
    """End them all, also those that start while we look; how many there were.

    Raises:
        RuntimeError: one does not die (it hangs in the kernel).
    """
    ended: set[int] = set()
    for _ in range(_ROUNDS):
        found = list(marked(name, value))
        if not found:
            return len(ended)
        for process in found:
            ended.add(process.pid)
            _kill(process)
        time.sleep(_PAUSE_SECONDS)
    raise RuntimeError(f"a process with {name}={value} does not die: it hangs in the kernel")


def _kill(process: psutil.Process) -> None:
    with suppress(psutil.Error):
        process.send_signal(signal.SIGKILL)  # psutil looks at the start time first: the number may be another's by now


def resident_bytes(pids: list[int]) -> int:
    """Resident memory of some processes together; what they share counts for each, so it is never too little."""
    total_bytes = 0
    for pid in pids:
        try:
            total_bytes += psutil.Process(pid).memory_info().rss
        except psutil.Error:
            continue
    return total_bytes


def family(pid: int) -> list[int]:
    """A process and everything below it."""
    try:
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.Error:
        return [pid]
