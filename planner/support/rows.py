"""The catalogue's rows on software: what was read about one piece of software on one kind of hardware.

`features` and `architectures` make a row answer questions of plans: what it says of each feature ("bitsandbytes 4-bit":
"no"), and the architectures of the device catalogue that it speaks of ("*" for all). A row without features informs
people only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

Answer = Literal["yes", "partial", "retired", "no"]
"""`partial`: works with limits that the detail names. `retired`: works, and nobody maintains it."""


@dataclass(frozen=True, slots=True)
class SupportRow:
    """One row of software_support.jsonl."""

    id: str
    software: str
    version: str
    topic: str
    hardware: str
    status: str
    detail: str
    decision: str | None
    as_of: str
    confidence: str
    sources: tuple[str, ...]
    features: Mapping[str, Answer]
    architectures: tuple[str, ...]

    def speaks_of(self, architecture: str) -> bool:
        """Whether the row is about this architecture."""
        return architecture in self.architectures or "*" in self.architectures


@cache
def support_rows() -> Sequence[SupportRow]:
    """All rows, in the order of the file."""
    text = files("planner.catalog").joinpath("software_support.jsonl").read_text(encoding="utf-8")
    return tuple(_row_of(json.loads(line)) for line in text.splitlines())


@cache
def row_for(feature: str, architecture: str) -> SupportRow | None:
    """The row that says whether a feature works on an architecture; None when no source says."""
    for row in support_rows():
        if feature in row.features and row.speaks_of(architecture):
            return row
    return None


def _row_of(values: Mapping[str, Any]) -> SupportRow:
    named = {name: value for name, value in values.items() if name not in {"source", "architectures"}}
    return SupportRow(**named, sources=tuple(values["source"]), architectures=tuple(values["architectures"]))
