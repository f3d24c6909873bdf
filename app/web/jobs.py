"""The pages of jobs and workers. They work by refresh; a small script makes an open job's page live."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from fastapi import APIRouter, Depends, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from app.access import may_read, needs_token, remember, require_reader, require_token
from app.jobs.handed_over import answer_of
from app.jobs.results import measurement_of
from app.jobs.service import AS_DEEP_AS_FITS, JobService, Order, is_id
from app.jobs.spec import FINAL_STATES, JobSpec
from app.plans import Plan
from app.web import pages
from app.web.charts import TERM_LABELS
from app.web.timeline import memory_chart
from planner.measurement import Compared

if TYPE_CHECKING:
    from app.db.tables import Job, JobEvent

router = APIRouter(include_in_schema=False)

STATES: Final = {
    "queued": ("Queued", "unknown"),
    "waiting_for_hardware": ("Waiting for hardware", "maybe"),
    "starting": ("Starting", "unknown"),
    "running": ("Running", "unknown"),
    "succeeded": ("Succeeded", "yes"),
    "failed": ("Failed", "no"),
    "cancelled": ("Cancelled", "unknown"),
    "timed_out": ("Timed out", "no"),
    "lost": ("Lost", "no"),
}
PHASES: Final = {
    "import": "loads the libraries",
    "build": "builds the model",
    "warm_up": "warms up",
    "measure": "measures steps",
    "calibrate": "measures rates",
    "fit": "fits the curves",
    "trace": "traces the step",
    "compare": "compares term by term",
    "write": "writes the result",
}
ROW_LABELS: Final = {
    "step_seconds": "One step",
    "tokens_per_second": "Tokens per second",
    "peak_allocated_bytes": "Peak of live tensors",
    "peak_reserved_bytes": "Peak reserved by the allocator",
    "resident_peak_bytes": "Peak of resident memory, above the imports",
}
PHASE_ROWS: Final = {"forward": "Forward", "backward": "Backward", "optimizer_step": "Optimizer step"}
CHART_WIDTH: Final = 640.0
CHART_HEIGHT: Final = 120.0


@dataclass(frozen=True, slots=True)
class Shown:
    """A job in a list."""

    id: str
    title: str
    state: str
    word: str
    tone: str
    message: str
    device_class: str
    created_at: datetime
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Chart:
    """Step times as a line: points in the chart's own units, and what its top stands for."""

    points: str
    highest_seconds: float
    count: int


def shown(job: Job) -> Shown:
    """A stored job as pages say it."""
    word, tone = STATES[job.state]
    if job.state == "succeeded" and job.failure_kind is not None:
        word, tone = "Out of memory", "maybe"
    ended = job.finished_at or (datetime.now(UTC) if job.started_at else None)
    seconds = None if job.started_at is None or ended is None else (ended - job.started_at).total_seconds()
    return Shown(job.id, job.title, job.state, word, tone, job.message or "", job.device_class, job.created_at, seconds)


def _jobs(request: Request) -> JobService:
    return request.app.state.jobs


@router.get("/jobs", dependencies=[Depends(require_reader)])
def jobs_page(request: Request, cursor: str | None = None) -> Response:
    """The jobs, newest first."""
    page = _jobs(request).find(limit=50, before=cursor)
    return pages.site_page(
        request, "jobs.html", here="/jobs", jobs=[shown(job) for job in page.items], next=page.next, phases=PHASES
    )


@router.get("/jobs/{job_id}", dependencies=[Depends(require_reader)])
def job_page(request: Request, job_id: str) -> Response:
    """One job: what it does, says and found."""
    jobs = _jobs(request)
    job = jobs.get(job_id)
    events = jobs.events(job_id, limit=5000)
    samples = [event.data for event in events if event.event == "sample"]
    return pages.site_page(
        request,
        "job.html",
        here="/jobs",
        job=job,
        shown=shown(job),
        is_final=job.state in FINAL_STATES,
        phase=PHASES.get(job.phase or "", ""),
        phases=PHASES,
        samples=samples,
        chart=chart_of([float(sample["seconds"]) for sample in samples]),
        log=[event for event in events if event.event in ("log", "state", "phase")],
        last_event=events[-1].number if events else 0,
        said=said,
        measurement=measurement_of(job),
        **verification_of(request, job),
        label_of=label_of,
        term_labels=TERM_LABELS,
        needs_token=needs_token(request.app.state.settings),
    )


def verification_of(request: Request, job: Job) -> dict[str, Any]:
    """What the page of a verifying job shows beside the job itself, once there is an answer."""
    answer = answer_of(job)
    if answer is None:
        return {"result": None, "chart_of_memory": None}
    spec = JobSpec.model_validate(job.spec)
    assert spec.request is not None
    assert spec.config is not None
    config_hash = None if spec.request.model.id else request.app.state.configs.put(spec.config)
    result = pages.result_for(request, Plan(spec.request, spec.config), answer, config_hash)
    return {"result": result, "labels": TERM_LABELS, "chart_of_memory": memory_chart(answer)}


def said(event: JobEvent) -> str:
    """An event as a line of the log."""
    data = event.data
    match event.event:
        case "state":
            return f"{STATES[data['state']][0]}: {data['message']}"
        case "phase":
            text = PHASES.get(data["phase"], data["phase"])
            return f"It {text}. {data['message']}".strip()
        case _:
            return str(data["message"])


def label_of(row: Compared) -> str:
    """What a row of a measurement is called."""
    return ROW_LABELS.get(row.name) or TERM_LABELS.get(row.name) or PHASE_ROWS.get(row.name, row.name.replace("_", " "))


def chart_of(seconds: Sequence[float]) -> Chart | None:
    """The steps' times; the script draws on in the same way."""
    if len(seconds) < 2:
        return None
    highest = max(seconds) or 1.0
    step = CHART_WIDTH / (len(seconds) - 1)
    points = " ".join(
        f"{index * step:.1f},{CHART_HEIGHT * (1 - value / highest):.1f}" for index, value in enumerate(seconds)
    )
    return Chart(points, highest, len(seconds))


@router.post("/plan/measure")
async def measure(request: Request) -> Response:
    """Run the plan that the address holds, or as much of it as fits."""
    await _check_token(request)
    plan, _ = await run_in_threadpool(pages.plan_of, request)
    order = Order("measure", request=plan.request, depth=AS_DEEP_AS_FITS)
    return await _submitted(request, order)


@router.post("/calibrate")
async def calibrate(request: Request) -> Response:
    """Measure the rates of a worker's device, or of this machine's."""
    await _check_token(request)
    worker_id = request.query_params.get("worker") or None
    return await _submitted(request, Order("calibrate", worker_id=worker_id))


@router.post("/jobs/{job_id}/cancel")
async def cancel(request: Request, job_id: str) -> Response:
    """End a job."""
    await _check_token(request)
    await run_in_threadpool(_jobs(request).cancel, job_id)
    return _shown_to_its_reader(request, job_id)


@router.post("/jobs/sign-in")
async def sign_in(request: Request) -> Response:
    """Exchange the token for a cookie that lets this browser look at jobs."""
    await _check_token(request)
    return _shown_to_its_reader(request, request.query_params.get("job", ""))


@router.get("/workers")
def workers_page(request: Request) -> Response:
    """Who runs jobs, and on which hardware."""
    return pages.site_page(
        request,
        "workers.html",
        here="/jobs",
        workers=_jobs(request).workers(),
        says_jobs=may_read(request),
        now=datetime.now(UTC),
        needs_token=needs_token(request.app.state.settings),
    )


async def _submitted(request: Request, order: Order) -> Response:
    job, _ = await run_in_threadpool(_jobs(request).submit, order)
    return _shown_to_its_reader(request, job.id)


def _shown_to_its_reader(request: Request, job_id: str) -> Response:
    """On to a job's page, or to the list; who came here has shown the token, and need not show it again to look."""
    response = RedirectResponse(f"/jobs/{job_id}" if is_id(job_id) else "/jobs", status_code=303)
    remember(request, response)
    return response


async def _check_token(request: Request) -> None:
    """The token of a form stands in a field, because a page can't set a header without a script."""
    async with request.form(max_files=0, max_fields=4) as sent:
        token = sent.get("token")
    require_token(request, token if isinstance(token, str) else "")
