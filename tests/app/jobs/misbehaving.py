"""Work that goes wrong on request, for a fork server that loads nothing heavy."""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path
from typing import Any


def prepare() -> None:
    """Nothing to load."""


def work(payload: Any) -> Any:
    """What the payload's first word says."""
    word, *rest = payload
    return _WORDS[word](*rest)


def echo(value: Any) -> Any:
    return value


def sleep(seconds: float, mark: str) -> str:
    """Say who sleeps, then sleep."""
    Path(mark).write_text(str(os.getpid()))
    time.sleep(seconds)
    return "woke"


def spin() -> None:
    """Never give the interpreter's lock back to a signal handler: only an alarm that kills ends this."""
    ctypes.PyDLL(None).pause()


def hoard(size_bytes: int) -> int:
    return len(bytearray(size_bytes))


def raise_(text: str) -> None:
    raise RuntimeError(text)


def segfault() -> None:
    ctypes.string_at(0)


def end(status: int) -> None:
    os._exit(status)


def babble(count: int) -> str:
    return "x" * count


def look() -> dict[str, Any]:
    return {"environment": dict(os.environ), "parent": os.getppid()}


_WORDS: dict[str, Any] = {
    "echo": echo,
    "sleep": sleep,
    "spin": spin,
    "hoard": hoard,
    "raise": raise_,
    "segfault": segfault,
    "end": end,
    "babble": babble,
    "look": look,
}
