"""Configurations that name code of their own: it is never loaded, and the answer says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from planner.contract import Answer

_WARNING: Final = (
    "The config.json names code of its own (`auto_map`). It was not loaded or executed; the estimate follows the "
    "known architecture of its model_type."
)


def with_code_warning(answer: Answer, config: Mapping[str, Any]) -> Answer:
    """The answer, with a warning where the configuration names code."""
    if "auto_map" not in config:
        return answer
    return answer.model_copy(update={"warnings": [*answer.warnings, _WARNING]})
