"""Where a command reads and writes: text, with colour only for people who look at it."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from typing import TextIO

_CODES = {"bold": "1", "dim": "2", "green": "32", "yellow": "33", "red": "31", "blue": "34", "cyan": "36"}
MAXIMUM_WIDTH = 100


@dataclass(frozen=True, slots=True)
class Console:
    """The three streams of a command, how wide the lines may be, and whether colour is welcome."""

    source: TextIO
    out: TextIO
    error: TextIO
    width: int
    colour: bool

    @classmethod
    def standard(cls) -> Console:
        """The process's own streams. Input is UTF-8 in every locale: a file's reader and a pipe's say the same."""
        from app.settings import colour_is_welcome

        reconfigure = getattr(sys.stdin, "reconfigure", None)  # what a test puts there may have none
        if reconfigure is not None:
            reconfigure(encoding="utf-8", errors="strict")
        width = min(MAXIMUM_WIDTH, shutil.get_terminal_size((MAXIMUM_WIDTH, 24)).columns)
        return cls(sys.stdin, sys.stdout, sys.stderr, width, sys.stdout.isatty() and colour_is_welcome())

    def paint(self, text: str, *names: str) -> str:
        """A text in colours or weights, when they are welcome."""
        if not self.colour or not names:
            return text
        return f"\x1b[{';'.join(_CODES[name] for name in names)}m{text}\x1b[0m"

    def write(self, text: str = "") -> None:
        """A line for the reader."""
        print(text, file=self.out, flush=True)

    def complain(self, text: str) -> None:
        """A line beside the output."""
        print(text, file=self.error, flush=True)
