"""Whether the process is alive, and whether it can answer."""

from __future__ import annotations

from fastapi import APIRouter
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


@router.get("/readyz", summary="The catalogues are read")
def ready() -> Health:
    all_models()
    all_devices()
    return Health(status="ok")
