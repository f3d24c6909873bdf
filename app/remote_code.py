"""Configurations that name code of their own: it is never loaded, and the answer says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from planner.contract import Answer

_WARNING: Final = (
    "The config.json names code of its own (`auto_map`). It was not loaded or executed; the estimate follows the "
    "known architecture of its model_type."
)


def code_warnings(config: Mapping[str, Any]) -> list[str]:
    """A warning where the configuration names code."""
    return [_WARNING] if "auto_map" in config else []


def with_code_warning(answer: Answer, config: Mapping[str, Any]) -> Answer:
    """The answer with `code_warnings`."""
    warnings = code_warnings(config)
    return answer.model_copy(update={"warnings": [*answer.warnings, *warnings]}) if warnings else answer
