"""The page of a verification: a form's answer, so that it works without JavaScript."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from app.api.verifications import verified_while_connected
from app.pace import keep_pace
from app.web import pages
from app.web.charts import TERM_LABELS

router = APIRouter(include_in_schema=False)


@router.post("/plan/verify")
async def verify(request: Request) -> Response:
    """Verify the plan that the address holds, and show what came of it."""
    keep_pace(request, "verifications")
    plan, config_hash = await run_in_threadpool(pages.plan_of, request)
    answer = await verified_while_connected(request, plan.request, advice=False)
    result = pages.result_for(request, plan, answer, config_hash)
    return pages.site_page(request, "verification.html", result=result, labels=TERM_LABELS)


@router.get("/plan/verify")
def back_to_the_plan(request: Request) -> Response:
    """A bookmark of the answer leads to its plan."""
    return RedirectResponse(f"/plan?{request.url.query}", status_code=303)
