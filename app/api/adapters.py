"""GET /adapters: the devices that a browser's graphics adapter may be."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from app.api.catalog import DeviceSummary, summarise_device

MAXIMUM_CHARACTERS = 300
router = APIRouter(tags=["catalogue"])


class AdapterAnswer(BaseModel):
    """What was said, the name in it, every device of exactly that name, and why there is none."""

    said: str
    name: str
    devices: list[DeviceSummary]
    why: str


@router.get("/adapters", summary="Which device does this browser's graphics adapter name?")
def find_adapter(
    said: Annotated[
        str,
        Query(
            max_length=MAXIMUM_CHARACTERS,
            description="WebGL's UNMASKED_RENDERER_WEBGL or WebGPU's adapter.info.description",
            examples=["ANGLE (NVIDIA, NVIDIA GeForce RTX 4090 (0x00002684) Direct3D11 vs_5_0 ps_5_0, D3D11)"],
        ),
    ] = "",
) -> AdapterAnswer:
    """A name is compared as a whole, never by a part: an unknown one has no device. Nothing is kept."""
    from app.detect.adapter import read_adapter  # looking at hardware is loaded when somebody asks

    found = read_adapter(said)
    devices = [summarise_device(item) for item in found.devices]
    return AdapterAnswer(said=found.said, name=found.name, devices=devices, why=found.why)
