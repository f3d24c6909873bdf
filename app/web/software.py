"""The page on software, and the part of a result that says how to get what the plan needs."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from app.api.software import FEATURES, find_facts, source_of
from app.web.pages import site_page
from planner.support import MachineKind, all_rows, machine_kinds, software_to_avoid

router = APIRouter(include_in_schema=False)

FACTS_SHOWN = 20
TONES = {"yes": "yes", "partial": "maybe", "no": "no", "retired": "no", "not stated": "unknown"}


@dataclass(frozen=True, slots=True)
class Cell:
    """One answer of the matrix. A kind of machine has several where its architectures differ."""

    label: str
    word: str
    tone: str
    architectures: str


@router.get("/software")
def software_page(request: Request, q: str = "", cursor: str | None = None) -> HTMLResponse:
    """Which software trains on which hardware."""
    facts, following = find_facts(q[:200], FACTS_SHOWN, cursor)
    return site_page(
        request,
        "software.html",
        here="/software",
        kinds=[(kind, [cells_of(kind, name) for name in FEATURES]) for kind in machine_kinds()],
        features=FEATURES,
        avoid=software_to_avoid(),
        facts=facts,
        next=following,
        q=q[:200],
        total=len(all_rows()),
        source_of=source_of,
    )


def cells_of(kind: MachineKind, feature: str) -> list[Cell]:
    """What a kind of machine says of a feature."""
    return [
        Cell(FEATURES[feature], "partly" if word == "partial" else word, TONES[word], ", ".join(architectures))
        for word, architectures in kind.answers(feature).items()
    ]
