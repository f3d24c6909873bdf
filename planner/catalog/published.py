"""Published peak memory, each row with the request in our contract that it answers and how it was mapped.

`measurements.jsonl` holds one row a line. Only rows are in it whose settings are all known and can be said in the
contract; `note` says how each was mapped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final

KINDS: Final = ("allocated", "reserved", "process", "unknown")
GROUPS: Final = ("eager", "compiled")


@dataclass(frozen=True, slots=True)
class PublishedPeak:
    """One published row.

    `kind` says what was read: allocated or reserved bytes of the framework's allocator, the process as the driver
    counts it, or unknown. `group` is `compiled` where the run used torch.compile, which the request leaves out.
    `tokens_per_second` is over all devices.
    """

    id: str
    publisher: str
    group: str
    source: str
    date_or_commit: str
    request: Mapping[str, Any]
    kind: str
    peak_bytes: int
    tokens_per_second: float | None
    note: str


@cache
def published_peaks() -> Sequence[PublishedPeak]:
    """Every row, in the order of the file."""
    text = files("planner.catalog").joinpath("measurements.jsonl").read_text(encoding="utf-8")
    return tuple(_peak_of(json.loads(line)) for line in text.splitlines())


def _peak_of(row: dict[str, Any]) -> PublishedPeak:
    measured = row["measured"]
    return PublishedPeak(
        id=row["id"],
        publisher=row["publisher"],
        group=row["group"],
        source=row["source"],
        date_or_commit=row["date_or_commit"],
        request=row["request"],
        kind=measured["kind"],
        peak_bytes=measured["bytes"],
        tokens_per_second=measured["tokens_per_second"],
        note=row["note"],
    )
