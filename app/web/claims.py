"""The page on claims: each held against plans that the engine answers now."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from app.web import address, pages

if TYPE_CHECKING:
    from planner.claims import Judged

router = APIRouter(include_in_schema=False)

TONES = {"confirmed": "yes", "holds when": "maybe", "corrected": "no"}


@dataclass(frozen=True, slots=True)
class Shown:
    """A judged claim with the addresses of its plans, None where a row has none."""

    judged: Judged
    tone: str
    rows: list[tuple[str, str, str | None]]


@router.get("/claims")
def claims_page(request: Request) -> HTMLResponse:
    """What people have read elsewhere, and what the engine says."""
    return pages.site_page(request, "claims.html", claims=shown_claims())


@cache
def shown_claims() -> list[Shown]:
    """Every claim, judged once a process: neither the engine nor its catalogue changes while it runs."""
    from planner.claims import CLAIMS, judged

    return [_shown(judged(claim)) for claim in CLAIMS]


def _shown(found: Judged) -> Shown:
    rows = [
        (row.label, row.text, None if row.request is None else f"/plan?{address.query(row.request)}")
        for row in found.rows
    ]
    return Shown(found, TONES[found.verdict], rows)
