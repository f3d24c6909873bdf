"""The gathered facts: one row for a piece of software on a kind of hardware, with version, date and source.

`features` and `architectures` let a row answer questions of plans: what it says of each feature ("bitsandbytes 4-bit":
"no"), and the architectures of the device catalogue that it speaks of ("*" for all). A row without them informs people
only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

Works = Literal["yes", "partial", "retired", "no"]
"""`partial`: with limits that the detail names. `retired`: it runs, and nobody maintains it."""


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
    features: Mapping[str, Works]
    architectures: tuple[str, ...]


@cache
def _by_id() -> Mapping[str, SupportRow]:
    text = files("planner.catalog").joinpath("software_support.jsonl").read_text(encoding="utf-8")
    return {found.id: found for found in (_row(json.loads(line)) for line in text.splitlines())}


def _row(values: Mapping[str, Any]) -> SupportRow:
    named: dict[str, Any] = {
        **values,
        "source": tuple(values["source"]),
        "architectures": tuple(values["architectures"]),
    }
    return SupportRow(**named)


def all_rows() -> tuple[SupportRow, ...]:
    """Every row, in the order of the file."""
    return tuple(_by_id().values())


def row(row_id: str) -> SupportRow:
    """The row with this id.

    Raises:
        KeyError: no such row.
    """
    return _by_id()[row_id]


@cache
@cache
def row_for(feature: str, architecture: str) -> SupportRow | None:
    """The first row that says whether a feature works on an architecture; None when no source says."""
    return next(
        (
            found
            for found in all_rows()
            if feature in found.features and (architecture in found.architectures or "*" in found.architectures)
        ),
        None,
    )
