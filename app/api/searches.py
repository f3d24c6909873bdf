"""POST /searches: fix anything, free anything."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from app.api.body import read_json
from app.api.estimates import as_json
from app.pace import keep_pace
from app.responses import problem_response
from app.searches import answer_search, parse_search
from planner.search import SearchAnswer, SearchRequest

router = APIRouter(tags=["searches"])

_EXAMPLE: dict[str, Any] = {
    "base": {
        "model": {"id": "meta-llama/Llama-3.1-8B"},
        "machine": {"device": "nvidia-rtx-4090-24gb"},
        "run": {"tokens": 10_000_000},
    },
    "free": {
        "run.method": ["lora", "qlora"],
        "run.activation_checkpointing": ["none", "full"],
        "run.micro_batch_size": [1, 2, 4, 8],
        "run.sequence_length": [1024, 2048, 4096],
    },
    "constraints": {"hours": 12, "minimum_sequence_length": 2048},
    "limit": 20,
}


def _described() -> dict[str, Any]:
    schema = SearchRequest.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs")
    schema["properties"]["base"] = {"$ref": "#/components/schemas/EstimateRequest"}
    schema["properties"]["constraints"] = _constraints()
    content = {"application/json": {"schema": schema, "examples": {"one model on one card": {"value": _EXAMPLE}}}}
    return {"requestBody": {"required": True, "content": content}}


def _constraints() -> dict[str, Any]:
    return SearchRequest.model_json_schema()["$defs"]["Constraints"]


@router.post(
    "/searches",
    response_model=SearchAnswer,
    openapi_extra=_described(),
    responses={429: problem_response("Too many searches")},
    summary="What would work, and which of it is best?",
)
async def create_search(request: Request) -> Response:
    """Every combination of the free values is weighed by the formulas of an estimate.

    The plans that no other beats in memory, time, price and quality are in `frontier`; each way of training once, at
    its fastest sizes, in `plans`; single winners and the smallest change that makes it a yes in `best`. What is refused
    is counted by its reason. `["*"]` frees a field to every value that it has.
    """
    keep_pace(request, "searches")
    asked = parse_search(await read_json(request))
    answer = await run_in_threadpool(answer_search, request.app.state.plans, asked)
    return as_json(answer.model_dump_json())
