"""POST /estimates and /estimates/batch."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.concurrency import run_in_threadpool

from app.api.body import parse_request, read_json
from app.plans import Plans
from app.problems import Problem, ProblemDocument
from app.refusals import from_validation
from planner.contract import Answer, EstimateRequest

MAXIMUM_BATCH = 256

router = APIRouter(tags=["estimates"])


class BatchRequest(BaseModel):
    """Requests that are read one by one, so that one with an error costs no other its answer."""

    model_config = ConfigDict(extra="forbid")

    requests: list[Any] = Field(max_length=MAXIMUM_BATCH)


class BatchAnswer(BaseModel):
    """Answers and problems, in the order of the requests."""

    answers: list[Answer | ProblemDocument]


REQUEST_SCHEMA = {"$ref": "#/components/schemas/EstimateRequest"}
_REQUESTS = {"type": "array", "maxItems": MAXIMUM_BATCH, "items": REQUEST_SCHEMA}
_BATCH = BatchRequest.model_json_schema() | {"properties": {"requests": _REQUESTS}}


def described(schema: dict[str, Any]) -> dict[str, Any]:
    """What OpenAPI says of a body and a parameter that are read by hand, because that is several times faster."""
    content = {"application/json": {"schema": schema}}
    advice = {
        "name": "advice",
        "in": "query",
        "required": False,
        "schema": {"type": "string", "enum": ["full", "none"], "default": "full"},
        "description": "`none` leaves `advice` out, which is most of the work.",
    }
    return {"requestBody": {"required": True, "content": content}, "parameters": [advice]}


def wants_advice(request: Request) -> bool:
    choice = request.query_params.get("advice", "full")
    if choice not in ("full", "none"):
        raise Problem(
            "invalid_request", "`advice` has no such choice", field="advice", value=choice, accepted="full or none"
        )
    return choice == "full"


@router.post(
    "/estimates", response_model=Answer, openapi_extra=described(REQUEST_SCHEMA), summary="Can I train this here?"
)
async def create_estimate(request: Request) -> Response:
    """One answer. It has status 200 for all five verdicts: a no is an answer, not an error."""
    return as_json(await answered(request))


async def answered(request: Request) -> bytes:
    """The JSON of the answer to a request's body.

    Raises:
        Problem: it cannot be answered.
    """
    advice = request.scope["query_string"] != b"advice=none" and wants_advice(request)
    asked = parse_request(await read_json(request))
    plans: Plans = request.app.state.plans
    plan = plans.at_hand(asked)
    if plan is not None and not advice:  # a part of a millisecond: a thread would cost more
        return plans.answer_json(plan, advice=False)
    return await run_in_threadpool(_answer, plans, asked, advice)


def _answer(plans: Plans, request: EstimateRequest, advice: bool) -> bytes:
    return plans.answer_json(plans.plan(request), advice=advice)


@router.post(
    "/estimates/batch",
    response_model=BatchAnswer,
    openapi_extra=described(_BATCH),
    summary="Several questions at once",
)
async def create_estimates(request: Request) -> Response:
    """Answers in the order of the requests; a request that cannot be answered has its problem in its place."""
    advice = wants_advice(request)
    asked = _requests_of(await read_json(request))
    plans: Plans = request.app.state.plans
    answers = await run_in_threadpool(_answer_each, plans, asked, advice)
    return as_json(b'{"answers":[' + b",".join(answers) + b"]}")


def _requests_of(values: Any) -> list[Any]:
    try:
        return BatchRequest.model_validate(values).requests
    except ValidationError as error:
        raise from_validation(error, BatchRequest) from error


def _answer_each(plans: Plans, requests: list[Any], advice: bool) -> list[bytes]:
    return [answer_or_problem(plans, values, advice=advice) for values in requests]


def answer_or_problem(plans: Plans, values: Any, *, advice: bool) -> bytes:
    """The JSON of an answer, or of the problem that stands in its place."""
    try:
        return _answer(plans, parse_request(values), advice)
    except Problem as problem:
        return problem.json().encode()


def as_json(text: str | bytes) -> Response:
    return Response(text, media_type="application/json")
