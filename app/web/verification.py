"""The page of a verification: a form's answer, so that it works without JavaScript."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from app.api.verifications import verified_or_job
from app.pace import keep_pace
from app.plans import Plan
from app.problems import Problem
from app.web import address, pages
from app.web.charts import TERM_LABELS
from app.web.timeline import memory_chart, timeline_csv
from planner.contract import Answer

if TYPE_CHECKING:
    from app.db.tables import Job

router = APIRouter(include_in_schema=False)


@router.post("/plan/verify")
async def verify(request: Request) -> Response:
    """Verify the plan that the address holds, and show what came of it."""
    plan, config_hash, found = await _verified(request)
    if not isinstance(found, Answer):
        return _to_its_job(found)
    result = pages.result_for(request, plan, found, config_hash)
    compare = address.comparison([result.query + address.VERIFIED])
    chart = memory_chart(found)
    return pages.site_page(
        request, "verification.html", result=result, labels=TERM_LABELS, chart=chart, compare=compare
    )


@router.post("/plan/verify.json")
async def verify_as_json(request: Request) -> Response:
    """The same answer as a file, timeline included; the verifier remembers it."""
    _, _, found = await _verified(request)
    if not isinstance(found, Answer):
        return _to_its_job(found)
    return _file(found.model_dump_json(), "application/json", "verification.json")


@router.post("/plan/verify.csv")
async def timeline_as_csv(request: Request) -> Response:
    """The timeline as a table, one row for each instant."""
    _, _, found = await _verified(request)
    if not isinstance(found, Answer):
        return _to_its_job(found)
    timeline = found.evidence.timeline
    if timeline is None:
        said = " ".join(found.evidence.notes) or "this plan could not be verified"
        raise Problem("no_timeline", f"there is no timeline: {said}", field="run")
    return _file(timeline_csv(timeline), "text/csv", "timeline.csv")


async def _verified(request: Request) -> tuple[Plan, str | None, Answer | Job]:
    keep_pace(request, "verifications")
    plan, config_hash = await run_in_threadpool(pages.plan_of, request)
    return plan, config_hash, await verified_or_job(request, plan.request, advice=False)


def _to_its_job(job: Job) -> Response:
    """It takes long: its page shows how far it is, and then the answer."""
    return RedirectResponse(f"/jobs/{job.id}", status_code=303)


def _file(text: str, media_type: str, name: str) -> Response:
    return Response(text, media_type=media_type, headers={"content-disposition": f'attachment; filename="{name}"'})


@router.get("/plan/verify")
def back_to_the_plan(request: Request) -> Response:
    """A bookmark of the answer leads to its plan."""
    return RedirectResponse(f"/plan?{request.url.query}", status_code=303)
