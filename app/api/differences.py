"""POST /differences: why a measured run is not what was estimated."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool

from app.api.body import read_json
from app.api.estimates import REQUEST_SCHEMA, as_json
from app.plans import Plans
from app.refusals import from_validation
from planner.contract import EstimateRequest
from planner.observed import MAXIMUM_CHARACTERS, Explanation

router = APIRouter(tags=["differences"])

_DOCUMENT: Final = TypeAdapter(Explanation)
_EXAMPLE: Final[dict[str, Any]] = {
    "request": {
        "model": {"id": "meta-llama/Llama-3.1-8B"},
        "machine": {"device": "nvidia-rtx-4090-24gb"},
        "run": {"method": "qlora", "micro_batch_size": 2},
    },
    "observed": "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of "
    "23.64 GiB of which 1.20 GiB is free. Including non-PyTorch memory, this process has 22.43 GiB memory in use. Of "
    "the allocated memory 20.11 GiB is allocated by PyTorch, and 1.90 GiB is reserved by PyTorch but unallocated.",
}


_BODY: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["request", "observed"],
    "additionalProperties": False,
    "properties": {"request": REQUEST_SCHEMA, "observed": {"type": "string", "maxLength": MAXIMUM_CHARACTERS}},
}
_CONTENT: Final = {"application/json": {"schema": _BODY, "examples": {"out of memory": {"value": _EXAMPLE}}}}


class DifferenceRequest(BaseModel):
    """A plan, and the text that a tool printed of its run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    request: EstimateRequest
    observed: str = Field(max_length=MAXIMUM_CHARACTERS)


@router.post(
    "/differences",
    response_model=Explanation,
    openapi_extra={"requestBody": {"required": True, "content": _CONTENT}},
    summary="Why did my run differ? Term by term, from nvidia-smi, memory_summary(), an error or a log",
)
async def create_difference(request: Request) -> Response:
    """Estimated and measured bytes of each term with known causes, and the plans that would explain the figure."""
    try:
        asked = DifferenceRequest.model_validate(await read_json(request))
    except ValidationError as error:
        raise from_validation(error, DifferenceRequest) from error
    plans: Plans = request.app.state.plans
    _, explanation = await run_in_threadpool(plans.explain, asked.request, asked.observed)
    return as_json(_DOCUMENT.dump_json(explanation).decode())
