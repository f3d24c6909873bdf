"""POST /jobs and what becomes of them; GET /workers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.concurrency import run_in_threadpool

from app.access import require_reader, require_token
from app.api.body import parse_request, read_json
from app.api.estimates import REQUEST_SCHEMA
from app.jobs.service import AS_DEEP_AS_FITS, JobService, Order
from app.jobs.spec import FINAL_STATES, FailureKind, JobKind, JobState
from app.problems import Problem
from app.refusals import from_validation
from app.responses import problem_response
from planner.contract import EstimateRequest

if TYPE_CHECKING:
    from app.db.tables import Job, Worker

MAXIMUM_PAGE: Final = 200
POLL_SECONDS: Final = 0.5
"""How often an open stream looks for new events."""
LOCATION: Final = "/api/v1/jobs"

router = APIRouter(tags=["jobs"])


class JobRequest(BaseModel):
    """What to run. `request` is a plan, as for an estimate; a calibration has none."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["measure", "calibrate"] = Field(
        description="measure: run a plan for some steps; calibrate: measure a device's rates"
    )
    request: Any = Field(default=None, description="the plan to measure")
    steps: int = Field(default=10, ge=1, le=1000, description="most steps to measure")
    depth: int | Literal["auto"] | None = Field(
        default=None, description="layers to build; auto: all, or as many as fit. The result is extended to all of them"
    )
    worker: str | None = Field(default=None, max_length=64, description="id of the worker that is to run it")
    deadline_seconds: float = Field(default=600, gt=0, le=3600)


class JobSummary(BaseModel):
    """A job as a list shows it: without the plan's configuration and the result."""

    id: str
    kind: JobKind
    state: JobState
    phase: str | None = Field(description="of a running job")
    failure_kind: FailureKind | None = Field(
        description="why it failed; of a measured plan that succeeded: that it ran out of memory"
    )
    message: str | None
    device_class: str
    worker: str | None = Field(description="id of the worker that has it, or had it")
    attempts: int
    depth: int | None
    steps: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class JobDocument(JobSummary):
    """A job as it is now."""

    request: EstimateRequest | None
    result: dict[str, Any] | None = Field(
        description="measurement, calibration or verification, and the software that ran"
    )


class JobPage(BaseModel):
    """A part of the list, newest first."""

    items: list[JobSummary]
    next: str | None


class WorkerDocument(BaseModel):
    """A worker and its machine."""

    id: str
    name: str
    live: bool = Field(description="whether it was heard of lately")
    device_classes: list[str]
    device_counts: dict[str, int] = Field(description="how many devices of each class one job can have")
    machine: dict[str, Any]
    stack: dict[str, str | None]
    protocol: int
    job: str | None = Field(description="the job that it runs")
    started_at: datetime
    heartbeat_at: datetime


class WorkerPage(BaseModel):
    """A part of the workers of the last day, live ones first."""

    items: list[WorkerDocument]
    next: str | None


def document_of(job: Job) -> JobDocument:
    """A stored job as the API shows it."""
    whole = {"request": job.spec.get("request"), "result": job.result}
    return JobDocument.model_validate(summary_of(job).model_dump() | whole)


def summary_of(job: Job) -> JobSummary:
    """A stored job as a list shows it."""
    known = job.model_dump(include=set(JobSummary.model_fields))
    return JobSummary.model_validate(known | {"worker": job.worker_id})


def worker_document(worker: Worker, live: bool, job: Job | None) -> WorkerDocument:
    """A stored worker as the API shows it."""
    known = worker.model_dump(include=set(WorkerDocument.model_fields))
    return WorkerDocument.model_validate({**known, "live": live, "job": None if job is None else job.id})


def jobs_of(request: Request) -> JobService:
    """The service of this application."""
    return request.app.state.jobs


Jobs = Annotated[JobService, Depends(jobs_of)]
_READERS: dict[str, Any] = {
    "dependencies": [Depends(require_reader)],
    "responses": {401: problem_response("A token is needed")},
}
"""On an address that others reach, jobs are shown to whoever has the token: plans and logs may be private."""
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["kind"],
    "additionalProperties": False,
    "properties": {
        "kind": {"type": "string", "enum": ["measure", "calibrate"]},
        "request": REQUEST_SCHEMA,
        "steps": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 10},
        "depth": {"anyOf": [{"type": "integer", "minimum": 1}, {"const": "auto"}, {"type": "null"}]},
        "worker": {"anyOf": [{"type": "string", "maxLength": 64}, {"type": "null"}]},
        "deadline_seconds": {"type": "number", "exclusiveMinimum": 0, "maximum": 3600, "default": 600},
    },
}
_BODY: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": _SCHEMA}}},
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "schema": {"type": "string", "minLength": 1, "maxLength": 255},
            "description": "the same key with the same body is the same job",
        }
    ],
}


@router.post(
    "/jobs",
    status_code=202,
    response_model=JobDocument,
    openapi_extra=_BODY,
    responses={401: problem_response("A token is needed"), 429: problem_response("Too many jobs wait"),
               503: problem_response("The database does not answer")},
    summary="Measure a plan, or calibrate a device, on a worker",
)  # fmt: skip
async def create_job(request: Request) -> Response:
    """Stores the job and answers at once; `Location` is where to look. On an address that others reach it needs
    `Authorization: Bearer` and the server's TRAINFIT_TOKEN."""
    require_token(request)
    order = order_of(await read_json(request))
    job, _ = await run_in_threadpool(jobs_of(request).submit, order, _idempotency_key(request))
    return accepted(job)


def accepted(job: Job) -> Response:
    """202: the job, and where to look for it."""
    headers = {"location": f"{LOCATION}/{job.id}"}
    return Response(document_of(job).model_dump_json(), status_code=202, media_type="application/json", headers=headers)


def order_of(values: Any) -> Order:
    """The order in a body.

    Raises:
        Problem: a field breaks the contract.
    """
    if not isinstance(values, dict):
        raise Problem("invalid_request", "the body is not a job", field="body", accepted='{"kind": "measure", ...}')
    try:
        asked = JobRequest.model_validate(values)
    except ValidationError as error:
        raise from_validation(error, JobRequest) from error
    if asked.kind == "calibrate" and asked.request is not None:
        raise Problem("invalid_request", "a calibration takes no plan", field="request", accepted="nothing")
    if isinstance(asked.depth, int) and asked.depth < 1:
        raise Problem(
            "invalid_request", "`depth` is less than 1", field="depth", value=asked.depth, accepted="1 or more"
        )
    return Order(
        kind=asked.kind,
        request=None if asked.kind == "calibrate" else _plan_of(asked.request),
        steps=asked.steps,
        depth=AS_DEEP_AS_FITS if asked.depth == "auto" else asked.depth,
        worker_id=asked.worker,
        deadline_seconds=asked.deadline_seconds,
    )


def _plan_of(values: Any) -> EstimateRequest:
    """The plan; what is at fault in it is named from the body's top."""
    if not isinstance(values, dict):
        raise Problem("invalid_request", "a measuring job needs a plan", field="request", accepted="a plan")
    try:
        return parse_request(values)
    except Problem as problem:
        found = problem.document
        raise Problem(
            found.code, found.detail, field=f"request.{found.field}", value=found.value, accepted=found.accepted,
            errors=[one.model_copy(update={"field": f"request.{one.field}"}) for one in found.errors],
        ) from problem  # fmt: skip


def _idempotency_key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and not (0 < len(key) <= 255 and key.isascii() and key.isprintable()):
        raise Problem(
            "invalid_request",
            "the key is none",
            field="Idempotency-Key",
            value=key,
            accepted="1 to 255 ASCII characters",
        )
    return key


@router.get("/jobs", summary="The jobs, newest first, without plans and results", **_READERS)
def list_jobs(
    jobs: Jobs,
    state: Annotated[JobState | None, Query(description="only jobs in this state")] = None,
    limit: Annotated[int, Query(ge=1, le=MAXIMUM_PAGE)] = 50,
    cursor: Annotated[str | None, Query(max_length=64, description="`next` of the page before")] = None,
) -> JobPage:
    page = jobs.find(states=() if state is None else (state,), limit=limit, before=cursor)
    return JobPage(items=[summary_of(job) for job in page.items], next=page.next)


@router.get("/jobs/{job_id}", summary="One job with its result", **_READERS)
def get_job(job_id: str, jobs: Jobs) -> JobDocument:
    return document_of(jobs.get(job_id))


@router.delete(
    "/jobs/{job_id}", responses={401: problem_response("A token is needed")}, summary="Cancel a job"
)  # fmt: skip
def cancel_job(job_id: str, request: Request, jobs: Jobs) -> JobDocument:
    """A job that waits is cancelled at once; one that runs within a second or two. One that ended stays as it is."""
    require_token(request)
    return document_of(jobs.cancel(job_id))


def _start_of(request: Request, after: int) -> int:
    """The number of the last event that the client saw."""
    text = request.headers.get("last-event-id", "")
    return int(text) if text.isdecimal() and len(text) < 10 else after


async def _known_job(job_id: str, request: Request) -> Job:
    """Looked up before the stream begins, because a stream that began can't say 404 any more."""
    return await run_in_threadpool(jobs_of(request).get, job_id)


@router.get(
    "/jobs/{job_id}/events", response_class=EventSourceResponse, summary="What a job says, as it says it", **_READERS
)
async def stream_events(
    request: Request,
    job: Annotated[Any, Depends(_known_job)],
    after: Annotated[int, Query(ge=0, le=10**9, description="number of the last event that was seen")] = 0,
) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events: `state`, `phase`, `sample` and `log`, each with its number as `id`. A client that was cut off
    sends the last one as `Last-Event-ID` and gets what came after. The stream ends after the job's final state."""
    jobs, seen = jobs_of(request), _start_of(request, after)
    while True:
        events = await run_in_threadpool(jobs.events, job.id, seen)
        for event in events:
            seen = event.number
            yield ServerSentEvent(
                event=event.event, id=str(event.number), data={**event.data, "at": event.at.isoformat()}
            )
            if event.event == "state" and event.data["state"] in FINAL_STATES:
                return
        if not events:
            if (await run_in_threadpool(jobs.get, job.id)).state in FINAL_STATES:
                return  # the client had seen the end already
            await asyncio.sleep(POLL_SECONDS)


@router.get("/workers", summary="Who runs jobs, and on which hardware")
def list_workers(
    jobs: Jobs,
    q: Annotated[str, Query(max_length=200, description="every word must occur in name, classes or machine")] = "",
    limit: Annotated[int, Query(ge=1, le=MAXIMUM_PAGE)] = 50,
    cursor: Annotated[str | None, Query(max_length=64, description="`next` of the page before")] = None,
) -> WorkerPage:
    found = [document for entry in jobs.workers() if _matches(document := worker_document(*entry), q)]
    ids = [document.id for document in found]
    if cursor is not None and cursor not in ids:
        raise Problem("invalid_request", "the list has no such place", field="cursor", value=cursor, accepted="`next`")
    start = 0 if cursor is None else ids.index(cursor) + 1
    page = found[start : start + limit]
    return WorkerPage(items=page, next=page[-1].id if start + limit < len(found) else None)


def _matches(worker: WorkerDocument, query: str) -> bool:
    text = f"{worker.name} {worker.device_classes} {worker.machine}".casefold()
    return all(word in text for word in query.casefold().split())
