"""The shortest ways to train on a kind of machine: which software, how to install it, and what to leave alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from planner.hardware.facts import read_rows
from planner.support.rows import SupportRow, row, row_for


@dataclass(frozen=True, slots=True)
class Route:
    """One piece of software with the methods that it trains with, and the commands that install it."""

    software: str
    methods: tuple[str, ...]
    install: tuple[str, ...]
    note: str
    support: SupportRow


@dataclass(frozen=True, slots=True)
class MachineKind:
    """The architectures on which the same software runs, with the routes in the order in which to try them."""

    id: str
    title: str
    architectures: tuple[str, ...]
    routes: tuple[Route, ...]

    def answers(self, feature: str) -> Mapping[str, tuple[str, ...]]:
        """What the rows say of a feature: each answer (yes, partial, no, not stated) with its architectures."""
        found: dict[str, tuple[str, ...]] = {}
        for architecture in self.architectures:
            said = row_for(feature, architecture)
            answer = "not stated" if said is None else said.features[feature]
            found[answer] = (*found.get(answer, ()), architecture)
        return found


@dataclass(frozen=True, slots=True)
class Avoided:
    """Software that people still find recommended, and should not start with."""

    why: str
    support: SupportRow


@cache
def machine_kinds() -> tuple[MachineKind, ...]:
    """Every kind of machine, in the order of the catalogue."""
    return tuple(
        MachineKind(
            id=values["id"],
            title=values["title"],
            architectures=tuple(values["architectures"]),
            routes=tuple(_route(each) for each in values["routes"]),
        )
        for values in read_rows("training_routes.jsonl")
    )


def _route(values: Mapping[str, Any]) -> Route:
    return Route(
        software=values["software"],
        methods=tuple(values["methods"]),
        install=tuple(values["install"]),
        note=values["note"],
        support=row(values["support_row"]),
    )


@cache
def software_to_avoid() -> tuple[Avoided, ...]:
    """What is archived, unsafe, or does not train at all."""
    return tuple(Avoided(values["why"], row(values["support_row"])) for values in read_rows("software_to_avoid.jsonl"))


def kind_of(architecture: str) -> MachineKind | None:
    """The kind of machine that an architecture belongs to; None for one that the catalogue does not know."""
    return next((kind for kind in machine_kinds() if architecture in kind.architectures), None)


def routes_for(architecture: str, method: str) -> tuple[Route, ...]:
    """The routes on an architecture that train with a method, best first."""
    kind = kind_of(architecture)
    return () if kind is None else tuple(route for route in kind.routes if method in route.methods)
