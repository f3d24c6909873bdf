"""Factors of the roofline and of its interval: stated once, with their source, in catalog/throughput_factors.jsonl."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Factor:
    """A number by class of device, and where it comes from."""

    values: Mapping[str, float]
    source: str

    def of(self, *keys: str) -> float:
        """The value of the first key that has one, else the default."""
        return next((self.values[key] for key in keys if key in self.values), self.values["default"])


@cache
def factors() -> Mapping[str, Factor]:
    """All factors by name."""
    text = files("planner.catalog").joinpath("throughput_factors.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    return {row["id"]: Factor(row["values"], row["source"]) for row in rows}
