"""The pages of kept comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from app.api.reports import reports_of
from app.pace import keep_pace
from app.plans import Plan
from app.problems import Problem
from app.reports import export
from app.reports.comparison import METHOD_LABELS, Comparison
from app.reports.document import MAXIMUM_NOTES, MAXIMUM_TITLE, ReportDocument, ReportRequest, parse_edit
from app.reports.service import FACETS, MAXIMUM_LIST, saved_comparison
from app.web import address, compare, pages
from app.web.charts import TERM_LABELS
from app.web.compare import Links
from app.web.result import VERDICTS
from planner.contract import Answer

router = APIRouter(include_in_schema=False)

COOKIE: Final = "trainfit-edit"
"""Holds the maker's token; its path is that of the report, so that each report has its own."""

COOKIE_SECONDS: Final = 400 * 86_400
"""Browsers keep none longer (RFC 6265bis)."""

PAGE_SIZE: Final = 20
FACET_LABELS: Final = {
    "model": "Model",
    "device": "Machine",
    "method": "Method",
    "verdict": "Verdict",
    "tier": "Evidence",
}


# --- keeping ---------------------------------------------------------------------------------------------------------


@router.post("/compare/save")
async def save(request: Request) -> Response:
    """Keep the comparison of the page, and go to its own address."""
    keep_pace(request, "reports")
    async with request.form(max_files=0, max_fields=20, max_part_size=2**17) as sent:
        queries = [text for text in sent.getlist("plan") if isinstance(text, str)]
        given = {name: sent.get(name) or "" for name in ("title", "notes", "baseline")}
    return await run_in_threadpool(_save, request, queries, given)


def _save(request: Request, queries: Sequence[str], given: Mapping[str, Any]) -> Response:
    words = parse_edit({"title": given["title"], "notes": given["notes"]})
    answered, _ = compare.answered_plans(request, queries)
    wanted = ReportRequest(
        title=words.title or "",
        notes=words.notes or "",
        requests=[item.plan.request for item in answered],
        baseline=compare.baseline_from(given["baseline"] or "0", len(answered)),
    )
    document, token = reports_of(request).keep(wanted, answered)
    response = RedirectResponse(document.url, status_code=303)
    response.set_cookie(
        COOKIE,
        token,
        max_age=COOKIE_SECONDS,
        path=document.url,
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
    )
    return response


@router.post("/r/{report_id}/edit")
async def edit(request: Request, report_id: str) -> Response:
    """Give the report another title and other notes."""
    async with request.form(max_files=0, max_fields=4, max_part_size=2**17) as sent:
        given = {name: sent.get(name) or "" for name in ("title", "notes")}
    token = request.cookies.get(COOKIE)
    await run_in_threadpool(reports_of(request).edit, report_id, parse_edit(given), token)
    return RedirectResponse(f"/r/{report_id}", status_code=303)


@router.post("/r/{report_id}/delete")
def delete(request: Request, report_id: str) -> Response:
    """Delete the report."""
    reports_of(request).delete(report_id, request.cookies.get(COOKIE))
    response = RedirectResponse("/reports", status_code=303)
    response.delete_cookie(COOKIE, path=f"/r/{report_id}")
    return response


# --- one report ------------------------------------------------------------------------------------------------------


def _seen(request: Request, report_id: str) -> tuple[ReportDocument, Comparison]:
    """The report with its saved numbers, held against the baseline that the address or its maker chose."""
    document = reports_of(request).get(report_id)
    baseline = compare.baseline_of(request, document.baseline, len(document.answers))
    return document, saved_comparison(document, baseline)


@router.get("/r/{report_id}.json")
def report_json(request: Request, report_id: str) -> Response:
    """The report as the API gives it."""
    document = reports_of(request).get(report_id)
    return Response(document.model_dump_json(), media_type="application/json")


@router.get("/r/{report_id}.csv")
def report_csv(request: Request, report_id: str) -> Response:
    """The rows of the comparison."""
    _, comparison = _seen(request, report_id)
    return Response(export.to_csv(comparison), media_type=export.CSV_TYPE)


@router.get("/r/{report_id}.md")
def report_markdown(request: Request, report_id: str) -> Response:
    """The report for issues and model cards."""
    document, comparison = _seen(request, report_id)
    text = export.to_markdown(document, comparison, str(request.base_url).rstrip("/"))
    return Response(text, media_type=export.MARKDOWN_TYPE)


@router.get("/r/{report_id}.svg")
def report_svg(request: Request, report_id: str) -> Response:
    """The picture of the report."""
    document, comparison = _seen(request, report_id)
    return Response(export.to_svg(document.title, comparison, document.created_at), media_type=export.SVG_TYPE)


@router.get("/r/{report_id}.png")
def report_png(request: Request, report_id: str) -> Response:
    """The picture as pixels."""
    document, comparison = _seen(request, report_id)
    svg = export.to_svg(document.title, comparison, document.created_at)
    return Response(export.to_png(svg), media_type=export.PNG_TYPE)


@router.get("/r/{report_id}/badge.svg")
def badge_svg(request: Request, report_id: str) -> Response:
    """A badge for a README."""
    badge = export.badge_of(reports_of(request).get(report_id))
    return Response(badge.svg(), media_type=export.SVG_TYPE)


@router.get("/r/{report_id}/badge.json")
def badge_json(request: Request, report_id: str) -> Response:
    """The same for a badge service."""
    return JSONResponse(export.badge_of(reports_of(request).get(report_id)).json())


@dataclass(frozen=True, slots=True)
class ThenAndNow:
    """What was said of a plan, and what is said today."""

    letter: str
    name: str
    then: Answer
    now: Answer

    @property
    def words(self) -> tuple[str, str]:
        return VERDICTS[self.then.verdict][0], VERDICTS[self.now.verdict][0]


@router.get("/r/{report_id}")
def report_page(request: Request, report_id: str) -> Response:
    """The report, with its numbers as they were; programs that ask for JSON get that."""
    accepted = request.headers.get("accept", "")
    if "application/json" in accepted and "text/html" not in accepted:
        return report_json(request, report_id)
    document, comparison = _seen(request, report_id)
    today, trouble = _today(request, document, comparison) if "current" in request.query_params else (None, "")
    token = request.cookies.get(COOKIE)
    return pages.site_page(
        request,
        "report.html",
        here="/reports",
        report=document,
        comparison=comparison,
        headline=comparison.headline,
        links=_links(request, document, comparison.baseline),
        labels=TERM_LABELS,
        today=today,
        trouble=trouble,
        here_with=_address(document, comparison.baseline, only=_only(request), current=True),
        here_without=_address(document, comparison.baseline, only=_only(request), current=False),
        base_address=str(request.base_url).rstrip("/"),
        may_edit=reports_of(request).may_edit(report_id, token),
        maximum_title=MAXIMUM_TITLE,
        maximum_notes=MAXIMUM_NOTES,
    )


def _only(request: Request) -> bool:
    return request.query_params.get("only") == "differences"


def _today(request: Request, document: ReportDocument, comparison: Comparison) -> tuple[list[ThenAndNow] | None, str]:
    """What is said today; or None and why nothing can be said, since the saved numbers are shown all the same."""
    try:
        answers = reports_of(request).today(document)
    except Problem as problem:
        return None, problem.document.detail
    pairs = zip(comparison.plans, answers, strict=True)
    return [ThenAndNow(plan.letter, plan.name, plan.answer, now) for plan, now in pairs], ""


def _address(document: ReportDocument, baseline: int, *, only: bool, current: bool) -> str:
    named = {
        **({"baseline": baseline} if baseline != document.baseline else {}),
        **({"only": "differences"} if only else {}),
        **({"current": "1"} if current else {}),
    }
    return document.url + (f"?{urlencode(named)}" if named else "")


def _links(request: Request, document: ReportDocument, baseline: int) -> Links:
    only, current = _only(request), "current" in request.query_params
    return Links(
        plans=[_plan_address(request, document, position) for position in range(len(document.requests))],
        baselines=[
            _address(document, position, only=only, current=current) for position in range(len(document.requests))
        ],
        only_differences=only,
        toggle=_address(document, baseline, only=not only, current=current),
    )


def _plan_address(request: Request, document: ReportDocument, position: int) -> str:
    """The plan's own page today. A pasted configuration is put where that page finds it."""
    plan = Plan(document.requests[position], document.configs[position])
    digest = request.app.state.configs.put(plan.config) if plan.request.model.config is not None else None
    return f"/plan?{address.query(plan.request, digest)}"


# --- the list --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FacetValue:
    """A value that the list can be narrowed to, and where."""

    text: str
    count: int
    href: str


@dataclass(frozen=True, slots=True)
class Facet:
    """One way to narrow the list. `chosen` is the value in force, `all` leads to the list without it."""

    label: str
    values: Sequence[FacetValue]
    chosen: str | None
    all: str


def _asked(request: Request) -> tuple[str, dict[str, str | None]]:
    return request.query_params.get("q", "")[:200], {name: request.query_params.get(name) for name in FACETS}


@router.get("/reports")
def reports_page(request: Request, cursor: str | None = None) -> HTMLResponse:
    """The list, searched and narrowed as its address says."""
    words, facets = _asked(request)
    reports = reports_of(request)
    wanted = reports.filter(words, facets)
    chosen = {name: value for name, value in facets.items() if value}
    asked = urlencode({**({"q": words} if words else {}), **chosen})
    found = reports.page(wanted, PAGE_SIZE, cursor)
    return pages.site_page(
        request,
        "reports.html",
        here="/reports",
        page=found,
        total=reports.count(wanted),
        q=words,
        chosen=chosen,
        asked=asked,
        facets=_facets(words, chosen, reports.facets(wanted)),
        verdicts=VERDICTS,
        methods=METHOD_LABELS,
    )


def _facets(words: str, chosen: Mapping[str, str], found: Mapping[str, list[tuple[str, int]]]) -> list[Facet]:
    return [_facet(name, words, chosen, found.get(name, [])) for name in FACETS]


def _facet(name: str, words: str, chosen: Mapping[str, str], values: Sequence[tuple[str, int]]) -> Facet:
    others: dict[str, str] = {**({"q": words} if words else {}), **chosen}
    others.pop(name, None)
    return Facet(
        label=FACET_LABELS[name],
        values=[
            FacetValue(_said(name, value), count, f"/reports?{urlencode({**others, name: value})}")
            for value, count in values
        ],
        chosen=_said(name, chosen[name]) if name in chosen else None,
        all=f"/reports?{urlencode(others)}",
    )


def _said(name: str, value: str) -> str:
    return VERDICTS[value][0] if name == "verdict" and value in VERDICTS else value


@router.get("/reports.json")
def reports_json(request: Request, cursor: str | None = None) -> Response:
    """Every report of the current filter."""
    reports = reports_of(request)
    page = reports.page(reports.filter(*_asked(request)), MAXIMUM_LIST, cursor)
    return Response(page.model_dump_json(), media_type="application/json")


@router.get("/reports.csv")
def reports_csv(request: Request) -> Response:
    """The same, a line for each plan."""
    reports = reports_of(request)
    page = reports.page(reports.filter(*_asked(request)), MAXIMUM_LIST)
    return Response(export.list_to_csv(page.items), media_type=export.CSV_TYPE)
