"""What holds for a whole architecture, product line or allocator: stated once, with its source, in the catalogue.

Three small tables stand beside devices.jsonl: `device_architectures` (dtypes, fused attention, context),
`device_product_lines` (matmul efficiency, medians over the measured devices of a class) and `device_allocators`
(rounding, fused optimizers).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, cast

from planner.hardware.profile import Efficiency, EmulatedRate, Provenance, Supports
from planner.units import MIB

Row = Mapping[str, Any]


def read_rows(name: str) -> list[Row]:
    """Return the rows of one JSON Lines file of the catalogue."""
    text = files("planner.catalog").joinpath(name).read_text(encoding="utf-8")
    return [cast(Row, json.loads(line)) for line in text.splitlines()]


@cache
def _table(name: str) -> Mapping[str, Row]:
    return {row["id"]: row for row in read_rows(name)}


def architectures() -> Mapping[str, Row]:
    """Return the facts by architecture ("sm_89", "gfx942", "apple-m3", "x86-avx2")."""
    return _table("device_architectures.jsonl")


def allocators() -> Mapping[str, Row]:
    """Return the facts by allocator family ("cuda", "mps", ...)."""
    return _table("device_allocators.jsonl")


@cache
def efficiencies(product_line: str) -> Mapping[str, Efficiency]:
    """Return matmul efficiency per dtype for a class of devices; unknown classes get the prior."""
    table = _table("device_product_lines.jsonl")
    row = table.get(product_line, table["unknown"])
    return {dtype: Efficiency(**value) for dtype, value in row["efficiency"].items()}


@cache
def emulated_rates(architecture: str) -> Mapping[str, EmulatedRate]:
    """Return the dtypes that an architecture computes without units of their own."""
    rates = architectures()[architecture]["emulated_rates"]
    return {dtype: EmulatedRate(**value) for dtype, value in rates.items()}


@cache
def supports(architecture: str) -> Supports:
    """Return what an architecture and its PyTorch backend can do in training."""
    row = architectures()[architecture]
    limit_mib = row["max_single_allocation_mib"]
    return Supports(
        float16=row["float16"],
        bfloat16=row["bfloat16"],
        float8=row["float8"],
        fused_attention_backward=row["fused_attention_backward"],
        flash_attention_2=row["flash_attention_2"],
        fused_optimizer=allocators()[row["allocator"]]["fused_optimizer"],
        max_single_allocation_bytes=None if limit_mib is None else limit_mib * MIB,
        sources=tuple(row["sources"]),
    )


def context(architecture: str) -> tuple[int, Provenance]:
    """Return the bytes that the driver context and kernels take in a process, measured or as a prior."""
    row = architectures()[architecture]
    return row["context_mib"] * MIB, Provenance(row["context_basis"], row["context_source"])


def rounding(architecture: str) -> tuple[int, Provenance]:
    """Return the bytes that the architecture's allocator rounds each storage up to."""
    row = allocators()[architectures()[architecture]["allocator"]]
    return row["rounding_bytes"], Provenance("allocator", row["sources"][0])
