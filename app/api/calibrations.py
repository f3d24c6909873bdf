"""GET /calibrations: what was measured on which device, when, with which software, and how well it fits."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from app.api.catalog import Cursor, Limit, Search
from app.calibrations import CalibrationBook
from app.problems import Problem
from planner.hardware.calibration import Calibration

router = APIRouter(tags=["jobs"])


class CalibrationSummary(BaseModel):
    """A calibration without its curves."""

    id: str
    created_at: str
    device: str
    device_id: str
    device_class: str
    threads: int | None
    stack: dict[str, Any]
    interval: tuple[float, float] = Field(description="shortest and longest measured over fitted time of four in five")


class CalibrationList(BaseModel):
    """A part of the newest calibrations, newest first."""

    items: list[CalibrationSummary]
    next: str | None


@router.get("/calibrations", summary="Calibrated devices")
def list_calibrations(request: Request, q: Search = "", limit: Limit = 50, cursor: Cursor = None) -> CalibrationList:
    """The newest hundred; older ones stay readable by id. `assumed` of an answer names the one it rests on."""
    found = [each for each in book_of(request).newest() if _matches(each, q)]
    ids = [each.id for each in found]
    if cursor is not None and cursor not in ids:
        raise Problem(
            "invalid_request", "the list has no such place", field="cursor", value=cursor, accepted="`next` of a page"
        )
    start = 0 if cursor is None else ids.index(cursor)
    end = start + limit
    following = ids[end] if end < len(ids) else None
    return CalibrationList(items=[summary_of(each) for each in found[start:end]], next=following)


def _matches(calibration: Calibration, query: str) -> bool:
    text = f"{calibration.id} {calibration.device} {calibration.device_id} {calibration.device_class}".lower()
    return all(word in text for word in query.lower().split())


@router.get("/calibrations/{calibration_id}", summary="One calibration with its curves")
def get_calibration(request: Request, calibration_id: str) -> Calibration:
    """Curves, factors and the runs that they were fitted to, as they were written."""
    return known(request, calibration_id)


def known(request: Request, calibration_id: str) -> Calibration:
    """The calibration of that id.

    Raises:
        Problem: there is none.
    """
    found = book_of(request).get(calibration_id)
    if found is None:
        raise Problem("not_found", f"there is no calibration {calibration_id[:64]}")
    return found


def book_of(request: Request) -> CalibrationBook:
    """What the application knows of calibrations."""
    return request.app.state.plans.calibrations


def summary_of(calibration: Calibration) -> CalibrationSummary:
    """What a list says of a calibration."""
    return CalibrationSummary.model_validate(calibration.model_dump(include=set(CalibrationSummary.model_fields)))
