"""What each trainer adds, by name: the rules that are modelled, their sources, and what is not known of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final, Literal, get_args

Status = Literal["modelled", "part", "not_modelled"]
STATUSES: Final = get_args(Status)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, the file of the framework that has it, and where it stands here."""

    rule: str
    source: str
    where: str


@dataclass(frozen=True, slots=True)
class FrameworkPolicy:
    """One trainer, or a library that is part of several (`part`). `unknown` says what is left out of it."""

    id: str
    name: str
    status: Status
    rules: Sequence[Rule]
    unknown: str


@cache
def framework_policies() -> Sequence[FrameworkPolicy]:
    """Every policy, in the order of the file."""
    text = files("planner.catalog").joinpath("framework_policies.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    return tuple(FrameworkPolicy(**row | {"rules": tuple(Rule(**rule) for rule in row["rules"])}) for row in rows)


def why_not_modelled(framework: str) -> str:
    """What is not known of a framework that is not modelled, empty where nothing is said of it."""
    return next((one.unknown for one in framework_policies() if one.id == framework and one.status != "modelled"), "")
