"""The documents that come with trainfit, and the published rows that could not become one, each with its reason."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from planner.corpus.document import MeasuredRun


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A published row that is not in the corpus, and why."""

    id: str
    source: str
    reason: str


@cache
def measured_runs() -> Sequence[MeasuredRun]:
    """Every document, in the order of the file."""
    return tuple(MeasuredRun.model_validate_json(line) for line in _lines("measurements.jsonl"))


@cache
def left_out() -> Sequence[LeftOut]:
    """Every row that was left out, in the order of the file."""
    return tuple(LeftOut(**json.loads(line)) for line in _lines("measurements_left_out.jsonl"))


def _lines(name: str) -> list[str]:
    return files("planner.catalog").joinpath(name).read_text(encoding="utf-8").splitlines()
