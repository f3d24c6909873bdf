"""GET /software: what trains on which hardware, how it is installed, and who says so."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field

from app.api.catalog import Cursor, Limit, Search
from app.problems import Problem
from planner.support import Route, SupportRow, all_rows, machine_kinds, software_to_avoid

router = APIRouter(tags=["catalogue"])

FEATURES = {
    "PyTorch": "trains at all",
    "bitsandbytes 4-bit": "QLoRA in 4 bits",
    "bitsandbytes optimizers": "8-bit optimizers",
    "fused attention": "fused attention, both ways",
    "several devices": "several devices",
    "float8 training": "float8 training",
}


class RouteDocument(BaseModel):
    """One way to train: software, methods, commands."""

    software: str
    methods: list[str]
    install: list[str]
    note: str
    source: str


class MachineKindDocument(BaseModel):
    """A kind of machine, what runs on it, and the ways to train, best first."""

    id: str
    title: str
    architectures: list[str]
    features: dict[str, dict[str, list[str]]] = Field(description="feature -> answer -> architectures")
    routes: list[RouteDocument]


class AvoidedDocument(BaseModel):
    """Software that is archived, unsafe or does not train."""

    software: str
    hardware: str
    why: str
    source: str


class SoftwareDocument(BaseModel):
    """The matrix."""

    machines: list[MachineKindDocument]
    avoid: list[AvoidedDocument]


class SupportPage(BaseModel):
    """A part of the gathered facts."""

    items: list[SupportRow]
    next: str | None


def source_of(row: SupportRow) -> str:
    """Who says so, and when it was read."""
    return f"{'; '.join(row.source)} ({row.as_of})"


@router.get("/software", summary="What trains on which hardware, and how to install it")
def get_software() -> SoftwareDocument:
    return SoftwareDocument(
        machines=[
            MachineKindDocument(
                id=kind.id,
                title=kind.title,
                architectures=list(kind.architectures),
                features={name: {k: list(v) for k, v in kind.answers(name).items()} for name in FEATURES},
                routes=[_route(route) for route in kind.routes],
            )
            for kind in machine_kinds()
        ],
        avoid=[
            AvoidedDocument(
                software=item.support.software,
                hardware=item.support.hardware,
                why=item.why,
                source=source_of(item.support),
            )
            for item in software_to_avoid()
        ],
    )


def _route(route: Route) -> RouteDocument:
    return RouteDocument(
        software=route.software,
        methods=list(route.methods),
        install=list(route.install),
        note=route.note,
        source=source_of(route.support),
    )


@router.get("/software/facts", summary="Search the facts on software and hardware, each with its source")
def list_facts(q: Search = "", limit: Limit = 50, cursor: Cursor = None) -> SupportPage:
    rows, following = find_facts(q, limit, cursor)
    return SupportPage(items=rows, next=following)


def find_facts(query: str, limit: int, cursor: str | None) -> tuple[list[SupportRow], str | None]:
    """The rows in which every word occurs, from the one whose id is `cursor`; and the id of the next one.

    Raises:
        Problem: no row has the id of the cursor.
    """
    words = query.lower().split()
    found = [row for row in all_rows() if all(word in _text(row) for word in words)]
    ids = [row.id for row in found]
    if cursor is not None and cursor not in ids:
        raise Problem(
            "invalid_request", "the list has no such place", field="cursor", value=cursor, accepted="`next` of a page"
        )
    start = 0 if cursor is None else ids.index(cursor)
    end = start + limit
    return found[start:end], ids[end] if end < len(ids) else None


def _text(row: SupportRow) -> str:
    return f"{row.software} {row.version} {row.topic} {row.hardware} {row.status} {row.detail}".lower()
