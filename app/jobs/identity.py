"""Who a worker is: the same after a restart, so that it goes on with what it was doing, and never two at once."""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path
from uuid import uuid4

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class NameTaken(Exception):
    """A worker of that name runs already."""


class Identity:
    """A worker's name and id, held by a lock on its folder for as long as the process lives.

    Raises:
        ValueError: the name is none.
        NameTaken: another process has it.
    """

    def __init__(self, data_dir: Path, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name for a worker: letters, digits, dot, hyphen and underline, up to 64")
        self.name = name
        directory = data_dir / "workers"
        directory.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(directory / f"{name}.id", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._descriptor)
            raise NameTaken(name) from None
        self.id = self._read() or self._make()

    def close(self) -> None:
        """Let another process be this worker."""
        os.close(self._descriptor)

    def _read(self) -> str:
        return os.pread(self._descriptor, 64, 0).decode(errors="replace").strip()

    def _make(self) -> str:
        made = uuid4().hex
        os.pwrite(self._descriptor, made.encode(), 0)
        return made
