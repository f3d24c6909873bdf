"""One job per device at a time, whoever asks: a lock of the operating system for each device.

The file descriptor goes to the job's process too, so that the lock holds for as long as anything of the job lives, even
when the worker does not. Queues decide who is next; this decides who runs.
"""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.jobs.devices import Slot

WAIT_SECONDS = 0.1
PROCESSOR = "processor"


@dataclass(frozen=True, slots=True)
class Held:
    """What a job has to itself: devices, none for the processor, and the descriptors that lock them."""

    slots: list[Slot]
    descriptors: list[int]


def lock_directory() -> Path:
    """The same for every trainfit of this user on this machine, whatever its data folder."""
    return Path(tempfile.gettempdir()) / f"trainfit-{os.getuid()}"


@contextmanager
def device_locks(slots: Sequence[Slot], count: int, wait: Callable[[float], bool]) -> Generator[Held | None]:
    """Any `count` of the devices, as soon as so many are free at once; None when `wait` says to give up.

    A job on accelerators holds each of them alone and shares the processor with other such jobs; a job on the processor
    has the processor alone, because both would disturb what it measures. Nobody holds one device while waiting for
    another, so that two jobs can't block each other.

    Args:
        slots: the devices to choose from.
        count: how many of them; 0: the processor.
        wait: waits some seconds; True: give up.
    """
    while (held := _try_all(slots, count)) is None:
        if wait(WAIT_SECONDS):
            yield None
            return
    try:
        yield held
    finally:
        _release(held.descriptors)


def _try_all(slots: Sequence[Slot], count: int) -> Held | None:
    """Everything that the job needs, or nothing."""
    descriptors: list[int] = []
    chosen: list[Slot] = []
    if not _take(PROCESSOR, fcntl.LOCK_SH if count else fcntl.LOCK_EX, descriptors):
        return None
    for slot in slots:
        if len(chosen) < count and _take(slot.lock, fcntl.LOCK_EX, descriptors):
            chosen.append(slot)
    if len(chosen) == count:
        return Held(chosen, descriptors)
    _release(descriptors)
    return None


def _take(name: str, how: int, descriptors: list[int]) -> bool:
    """Lock it, if it is free, and note the descriptor."""
    descriptor = _open(name)
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    descriptors.append(descriptor)
    return True


def _release(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _open(name: str) -> int:
    directory = lock_directory()
    directory.mkdir(mode=0o700, exist_ok=True)
    path = directory / (re.sub(r"[^A-Za-z0-9._-]", "_", name) + ".lock")
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
