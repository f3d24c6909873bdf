"""Whether the process is alive, and whether it can answer."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import BaseModel

from planner.catalog.models import all_models
from planner.hardware import all_devices

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """A short yes."""

    status: str


@router.get("/livez", summary="The process is alive")
async def live() -> Health:
    return Health(status="ok")


@router.get("/readyz", summary="The catalogues are read, and the database answers where one is used")
def ready(request: Request) -> Health:
    """503 when the database of jobs and reports does not answer. A SQLite file is not made before somebody needs it."""
    all_models()
    all_devices()
    request.app.state.jobs.ping()
    return Health(status="ok")
