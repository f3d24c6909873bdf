"""How numbers are written for people. Memory is always GiB; the exact bytes stand in the tooltip."""

from __future__ import annotations

from typing import Any, Final

from markupsafe import Markup

from planner.units import GIB, format_count, format_seconds


def gib(size_bytes: float) -> str:
    """A size in GiB: three digits, never rounded to nothing while something is there."""
    value = abs(size_bytes) / GIB
    sign = "−" if size_bytes < 0 else ""
    if 0 < value < 0.005:
        return f"{sign}<0.01 GiB"
    digits = 2 if value < 10 else 1 if value < 1000 else 0
    return f"{sign}{value:,.{digits}f} GiB"


def size(size_bytes: int) -> Markup:
    """A size in GiB with the bytes in its tooltip."""
    return Markup('<data value="{0}" title="{0:,} bytes">{1}</data>').format(size_bytes, gib(size_bytes))


def count(value: int) -> Markup:
    """A count with its exact value in the tooltip."""
    return Markup('<data value="{0}" title="{0:,}">{1}</data>').format(value, format_count(value))


def seconds(value: float) -> str:
    """A duration as a person says it."""
    return format_seconds(value)


def percent(value: float) -> str:
    """A share; small ones keep a digit."""
    return f"{value * 100:.0f} %" if value >= 0.1 else f"{value * 100:.1f} %"


def rate(value: float) -> str:
    """A rate with three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def pace(factor: float) -> str:
    """How long the same tokens take, against the plan as it is."""
    if factor >= 2:
        return f"takes {factor:.1f} times as long"
    if abs(factor - 1) < 0.005:
        return "as fast"
    return f"takes {percent(factor - 1)} longer" if factor > 1 else f"takes {percent(1 - factor)} less time"


def plain(value: Any) -> str:
    """A value of the request as a word."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return ", ".join(plain(item) for item in value) or "none"  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, dict):
        return ", ".join(f"{name} {plain(inner)}" for name, inner in value.items())  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return "—" if value is None else str(value)


INTERVAL_BASES: Final = {"residuals": "nine of ten measured runs", "uncalibrated": "uncalibrated, few measured runs"}


def interval_basis(name: str) -> str:
    """What an interval rests on, for people."""
    return INTERVAL_BASES.get(name, name)


def words(identifier: str) -> str:
    """An identifier as words: `logits_and_loss` is "logits and loss"."""
    return identifier.replace("_", " ")


def cell(text: str) -> str:
    """A text that cannot break out of a Markdown line or table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
