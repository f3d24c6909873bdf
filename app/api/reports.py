"""/reports: comparisons that are kept under an address of their own."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from app.access import require_reader
from app.api.body import read_json
from app.api.catalog import MAXIMUM_PAGE, Cursor, Search
from app.api.estimates import as_json
from app.pace import keep_pace
from app.reports.document import (
    MAXIMUM_NOTES,
    MAXIMUM_PLANS,
    MAXIMUM_TITLE,
    MINIMUM_PLANS,
    ReportCreated,
    ReportDocument,
    ReportPage,
    parse_edit,
    parse_report,
)
from app.reports.evidence import FromJob, ToVerify
from app.reports.service import Reports
from app.responses import problem_response

router = APIRouter(tags=["reports"])

_WORDS: dict[str, Any] = {
    "title": {"type": "string", "maxLength": MAXIMUM_TITLE, "description": "one line; left out: made from the plans"},
    "notes": {"type": "string", "maxLength": MAXIMUM_NOTES, "description": "text, shown as simple Markdown"},
}
_PLAN: dict[str, Any] = {"$ref": "#/components/schemas/EstimateRequest"}


def _fields(**properties: Any) -> dict[str, Any]:
    """An object that has these fields and no others."""
    return {"type": "object", "required": [*properties], "additionalProperties": False, "properties": properties}


_CREATE: dict[str, Any] = {
    "type": "object",
    "required": ["requests"],
    "additionalProperties": False,
    "properties": {
        **_WORDS,
        "requests": {
            "type": "array",
            "minItems": MINIMUM_PLANS,
            "maxItems": MAXIMUM_PLANS,
            "items": {"anyOf": [_PLAN, _fields(job={"type": "string"}), _fields(verify=_PLAN)]},
        },
        "baseline": {"type": "integer", "minimum": 0, "maximum": MAXIMUM_PLANS - 1, "default": 0},
    },
}
_EDIT: dict[str, Any] = {"type": "object", "additionalProperties": False, "properties": _WORDS}
_EXAMPLE: dict[str, Any] = {
    "title": "Qwen2.5 7B: my laptop or a rented card?",
    "requests": [
        {"model": {"id": "Qwen/Qwen2.5-7B"}, "machine": {"device": device}, "run": {"method": "qlora"}}
        for device in ("this-machine", "nvidia-rtx-4090-24gb")
    ],
}


def _body(schema: dict[str, Any], example: dict[str, Any]) -> dict[str, Any]:
    content = {"application/json": {"schema": schema, "examples": {"example": {"value": example}}}}
    return {"requestBody": {"required": True, "content": content}}


Authorization = Annotated[str | None, Header(max_length=512, description="`Bearer` and the report's edit_token")]
Limit = Annotated[int, Query(ge=1, le=MAXIMUM_PAGE)]
Facet = Annotated[str | None, Query(max_length=300)]


def reports_of(request: Request) -> Reports:
    """The reports of the application that answers this request."""
    return request.app.state.reports


def bearer(authorization: str | None) -> str | None:
    """The token of an Authorization header."""
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() or None if scheme.casefold() == "bearer" else None


@router.post(
    "/reports",
    status_code=201,
    response_model=ReportCreated,
    openapi_extra=_body(_CREATE, _EXAMPLE),
    responses={429: problem_response("Too many reports")},
    summary="Keep a comparison of 2 to 8 plans",
)
async def create_report(request: Request) -> Response:
    """Every request is answered now, and plans and answers never change again. Keep `edit_token`: it is shown once.

    A request is a plan; `{"verify": plan}`, which waits for its verification; or `{"job": id}`: what a job has verified
    or measured, with its tier, its differences and its measured figures.

    `url` is the report's page; `.json`, `.csv`, `.md`, `.svg` and `.png` behind it are the same report for other uses.
    """
    keep_pace(request, "reports")
    wanted = parse_report(await read_json(request))
    if any(isinstance(one, ToVerify) for one in wanted.requests):
        keep_pace(request, "verifications")
    if any(isinstance(one, FromJob) for one in wanted.requests):
        require_reader(request)
    document, token = await run_in_threadpool(reports_of(request).create, wanted)
    created = ReportCreated(id=document.id, url=document.url, edit_token=token)
    return Response(
        created.model_dump_json(), 201, {"location": f"/api/v1/reports/{document.id}"}, media_type="application/json"
    )


@router.get("/reports", summary="Search the kept comparisons")
def list_reports(
    request: Request,
    q: Search = "",
    model: Facet = None,
    device: Facet = None,
    method: Facet = None,
    verdict: Facet = None,
    tier: Facet = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> ReportPage:
    """Newest first. Each facet keeps the reports that have a plan with exactly that value."""
    facets = {"model": model, "device": device, "method": method, "verdict": verdict, "tier": tier}
    reports = reports_of(request)
    return reports.page(reports.filter(q, facets), limit, cursor)


@router.get("/reports/{report_id}", response_model=ReportDocument, summary="One kept comparison")
def get_report(request: Request, report_id: str) -> Response:
    """Requests, answers, and what they rest on: the models' configurations and the machines' figures."""
    return as_json(reports_of(request).get(report_id).model_dump_json())


@router.patch(
    "/reports/{report_id}",
    response_model=ReportDocument,
    openapi_extra=_body(_EDIT, {"notes": "We took the 4090."}),
    summary="Change title or notes",
)
async def edit_report(request: Request, report_id: str, authorization: Authorization = None) -> Response:
    """What is left out stays as it is. Plans and answers cannot be changed."""
    edit = parse_edit(await read_json(request))
    document = await run_in_threadpool(reports_of(request).edit, report_id, edit, bearer(authorization))
    return as_json(document.model_dump_json())


@router.delete("/reports/{report_id}", status_code=204, summary="Delete a kept comparison")
def delete_report(request: Request, report_id: str, authorization: Authorization = None) -> Response:
    reports_of(request).delete(report_id, bearer(authorization))
    return Response(status_code=204)
