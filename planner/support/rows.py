"""The gathered facts: one row for a piece of software on a kind of hardware, with version, date and source."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class SupportRow:
    """What one piece of software can do on one kind of hardware.

    `status` is works, partial, prototype, retired or no; `decision` is what a planner should do with it.
    """

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
    source: tuple[str, ...]


_TEXTS: Final = ("id", "software", "version", "topic", "hardware", "status", "detail", "as_of", "confidence")


@cache
def _by_id() -> Mapping[str, SupportRow]:
    text = files("planner.catalog").joinpath("software_support.jsonl").read_text(encoding="utf-8")
    return {found.id: found for found in (_row(json.loads(line)) for line in text.splitlines())}


def _row(values: dict[str, Any]) -> SupportRow:
    texts = {name: str(values[name]) for name in _TEXTS}
    return SupportRow(**texts, decision=values["decision"], source=tuple(values["source"]))


def all_rows() -> tuple[SupportRow, ...]:
    """Every row, in the order of the file."""
    return tuple(_by_id().values())


def row(row_id: str) -> SupportRow:
    """The row with this id.

    Raises:
        KeyError: no such row.
    """
    return _by_id()[row_id]
