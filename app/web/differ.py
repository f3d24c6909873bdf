"""Why did my run differ: the box that takes a tool's text, and what it means for the plan beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse

from app.api.body import parse_request
from app.plans import Plans
from app.problems import Problem
from app.web import address, form, pages
from app.web.numbers import gib, rate, seconds
from app.web.result import changed_address
from planner.observed import Explanation, Finding

router = APIRouter(include_in_schema=False)

SHOWN: Sequence[str] = ("device", "method", "sequence_length", "micro_batch_size")
"""The knobs that stand beside the box; the others of a plan travel with it unseen."""


@dataclass(frozen=True, slots=True)
class Row:
    """A finding in words."""

    finding: Finding
    estimated: str
    measured: str
    difference: str


@dataclass(frozen=True, slots=True)
class Guess:
    """A plan that would explain the figure, with its address."""

    title: str
    href: str
    predicted_bytes: int
    remaining_bytes: int


@router.get("/differ")
def differ_page(request: Request) -> HTMLResponse:
    """The box, beside the plan that the address holds, if it holds one."""
    return _page(request, dict(request.query_params))


@router.post("/differ")
async def differ(request: Request) -> HTMLResponse:
    """What the text says about the plan. Neither is kept."""
    async with request.form(max_files=0, max_fields=100, max_part_size=2**20) as sent:
        typed = {name: text for name, text in sent.items() if isinstance(text, str)}
    return await run_in_threadpool(_answer, request, typed)


def _answer(request: Request, typed: Mapping[str, str]) -> HTMLResponse:
    values = {name: text for name, text in typed.items() if name != "observed"}
    plans: Plans = request.app.state.plans
    try:
        asked = address.parse(values.items())
        if asked.model_id is None and asked.config_hash is None:
            raise Problem("invalid_request", "no model was given", field="model.id", accepted="a model's id")
        plan, explanation = plans.explain(parse_request(asked.values(pages.stored(request, asked))), typed["observed"])
    except KeyError:
        return _page(request, typed, problem=Problem("unreadable_text", "no text was sent", field="observed"))
    except Problem as problem:
        return _page(request, typed, problem=problem)
    guesses = [
        Guess(suspect.title, href, suspect.predicted_bytes, suspect.remaining_bytes)
        for suspect in explanation.suspects
        if (href := changed_address(plan.request, suspect.change, asked.config_hash)) is not None
    ]
    query = address.query(plan.request, asked.config_hash)
    rows = list(_rows(explanation))
    return _page(request, typed, explanation=explanation, rows=rows, guesses=guesses, plan_href=f"/plan?{query}")


def _rows(explanation: Explanation) -> Iterator[Row]:
    for finding in explanation.findings:
        said = {"step_seconds": seconds, "tokens_per_second": rate}.get(finding.term, gib)
        sign = "+" if finding.difference > 0 else ""
        in_bytes = said is gib
        difference = f"{sign}{gib(finding.difference)}" if in_bytes else f"{finding.measured / finding.estimated:.2f} ×"
        least = "at least " if finding.at_least else ""
        yield Row(finding, said(finding.estimated), least + said(finding.measured), difference)


def _page(
    request: Request, typed: Mapping[str, str], *, problem: Problem | None = None, **found: object
) -> HTMLResponse:
    filled = form.with_problem(typed, problem) if problem else form.Form(typed)
    visible = {"model", "observed", "v", *SHOWN}
    return pages.site_page(
        request,
        "differ.html",
        200 if problem is None else problem.status,
        here="/differ",
        form=filled,
        knobs=[form.knob(name) for name in SHOWN],
        hidden={name: text for name, text in typed.items() if name not in visible and text},
        **{"explanation": None, "rows": [], "guesses": [], "plan_href": None, **found},
    )
