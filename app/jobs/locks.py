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
from pathlib import Path

WAIT_SECONDS = 0.1
PROCESSOR = "processor"


def lock_directory() -> Path:
    """The same for every trainfit of this user on this machine, whatever its data folder."""
    return Path(tempfile.gettempdir()) / f"trainfit-{os.getuid()}"


@contextmanager
def device_locks(devices: Sequence[str], wait: Callable[[float], bool]) -> Generator[list[int] | None]:
    """Descriptors of the locks; None when `wait` says to give up.

    A job on accelerators holds each of them alone and shares the processor with other such jobs; a job on the processor
    has the processor alone, because both would disturb what it measures.

    Args:
        devices: the accelerators' names, taken in sorted order, so that two jobs can't block each other; none: the
            processor.
        wait: waits some seconds; True: give up.
    """
    wanted = [(name, fcntl.LOCK_EX) for name in sorted(devices)]
    wanted.append((PROCESSOR, fcntl.LOCK_SH if devices else fcntl.LOCK_EX))
    held: list[int] = []
    try:
        for name, how in wanted:
            descriptor = _open(name)
            held.append(descriptor)
            while not _take(descriptor, how):
                if wait(WAIT_SECONDS):
                    yield None
                    return
        yield held
    finally:
        for descriptor in held:
            os.close(descriptor)


def _open(name: str) -> int:
    directory = lock_directory()
    directory.mkdir(mode=0o700, exist_ok=True)
    path = directory / (re.sub(r"[^A-Za-z0-9._-]", "_", name) + ".lock")
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _take(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
