"""GET /models and /devices: what trainfit knows."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from app.problems import Problem
from planner.catalog.models import CatalogModel, UnknownModel, find_models, model
from planner.hardware import DeviceProfile, UnknownDevice, device, find_devices

MAXIMUM_PAGE = 200
router = APIRouter(tags=["catalogue"])

Search = Annotated[str, Query(max_length=200, description="every word must occur")]
Limit = Annotated[int, Query(ge=1, le=MAXIMUM_PAGE)]
Cursor = Annotated[str | None, Query(max_length=256, description="`next` of the page before")]


class ModelSummary(BaseModel):
    """A model in a list. `parameters` is the count that its page explains."""

    id: str
    family: str
    kind: str
    parameters: int
    license: str | None


class ModelPage(BaseModel):
    """A part of the catalogue of models."""

    items: list[ModelSummary]
    next: str | None


class DeviceSummary(BaseModel):
    """A device in a list, figures per logical device. A CPU's memory is the host's, hence null."""

    id: str
    name: str
    display_name: str = Field(description="the name with its memory in GiB, as pages show it")
    vendor: str
    kind: str
    memory_bytes: int | None
    usable_bytes: int | None
    memory_bandwidth_bytes_per_second: int | None
    logical_devices_per_unit: int
    release_year: int | None


class DevicePage(BaseModel):
    """A part of the catalogue of devices."""

    items: list[DeviceSummary]
    next: str | None


@router.get("/models", summary="Search the catalogue of models")
def list_models(q: Search = "", limit: Limit = 50, cursor: Cursor = None) -> ModelPage:
    try:
        page = find_models(q, limit, cursor)
    except UnknownModel as error:
        raise _bad_cursor(cursor) from error
    return ModelPage(items=[summarise_model(entry) for entry in page.items], next=page.next_cursor)


def summarise_model(entry: CatalogModel) -> ModelSummary:
    """A model as lists show it."""
    return ModelSummary(id=entry.id, family=entry.family, kind=entry.kind, parameters=entry.size, license=entry.license)


@router.get("/models/{model_id:path}", summary="One model with its configuration and counts")
def get_model(model_id: str) -> CatalogModel:
    try:
        return model(model_id)
    except UnknownModel as error:
        raise Problem(
            "unknown_model", f"no model of the catalogue has the id {model_id[:128]!r}", field="model_id"
        ) from error


@router.get("/devices", summary="Search the catalogue of devices")
def list_devices(q: Search = "", limit: Limit = 50, cursor: Cursor = None) -> DevicePage:
    try:
        page = find_devices(q, limit=limit, cursor=cursor)
    except ValueError as error:
        raise _bad_cursor(cursor) from error
    return DevicePage(items=[summarise_device(item) for item in page.items], next=page.next_cursor)


def summarise_device(profile: DeviceProfile) -> DeviceSummary:
    """A device as lists show it."""
    total_bytes = profile.memory_total_bytes
    return DeviceSummary(
        id=profile.id,
        name=profile.name,
        display_name=profile.display_name,
        vendor=profile.vendor,
        kind=profile.kind,
        memory_bytes=total_bytes,
        usable_bytes=None if total_bytes is None else total_bytes - profile.system_reserved_bytes,
        memory_bandwidth_bytes_per_second=profile.memory_bandwidth_bytes_per_second,
        logical_devices_per_unit=profile.logical_devices_per_unit,
        release_year=profile.release_year,
    )


@router.get("/devices/{device_id}", summary="One device with the source of each figure")
def get_device(device_id: str) -> DeviceProfile:
    try:
        return device(device_id)
    except UnknownDevice as error:
        raise Problem("unknown_device", str(error), field="device_id", value=device_id, status=404) from error


def _bad_cursor(cursor: str | None) -> Problem:
    return Problem(
        "invalid_request", "the list has no such place", field="cursor", value=cursor, accepted="`next` of a page"
    )
