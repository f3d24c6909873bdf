"""How a problem is shown: as JSON to programs, as a page to people."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from fastapi import Request
from starlette.responses import Response

from app.problems import KINDS, MEDIA_TYPE, Problem

_DATA_SUFFIXES = (".json", ".csv", ".md", ".svg", ".png")
_SCHEMA = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}}


def problem_response(title: str) -> dict[str, Any]:
    """What OpenAPI says of a status that has a problem as its body."""
    return {"description": title, "content": _SCHEMA}


PROBLEM_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: problem_response(title)
    for status, title in (
        (400, "Not JSON, or not for this host"),
        (403, "From another site, a gated model, or somebody else's report"),
        (404, "Unknown model, device, report or address"),
        (413, "Body too large"),
        (415, "Not JSON by its Content-Type"),
        (422, "A field breaks the contract"),
        (424, "The Hub did not answer, or a verification ended without an answer"),
    )
}


def respond(request: Request, problem: Problem) -> Response:
    """A problem as the one who asks can read it."""
    if not wants_page(request):
        headers = {"www-authenticate": "Bearer"} if problem.status == 401 else None
        return Response(problem.json(), status_code=problem.status, media_type=MEDIA_TYPE, headers=headers)
    from app.web.templating import page

    kind = KINDS.get(problem.document.code, KINDS["invalid_request"])
    before = {"/plan": "/", "/plan/verify": "/plan"}.get(request.url.path)
    back = f"{before}?{request.url.query}" if before and request.url.query else "/"
    sign_in = _sign_in_address(request) if kind is KINDS["token_needed"] else None
    site = {"version": request.app.version, "here": ""}
    return page("error.html", problem.status, problem=problem, remedy=kind.remedy, back=back, sign_in=sign_in, **site)


def _sign_in_address(request: Request) -> str:
    """Where a browser shows the token, to come back to the job that it asked for."""
    name, _, job_id = request.url.path.removeprefix("/jobs").partition("/")
    return "/jobs/sign-in" if name or "/" in job_id else f"/jobs/sign-in?{urlencode({'job': job_id})}"


def wants_page(request: Request) -> bool:
    """Whether the one who asks reads pages: a path outside the API, without a data suffix, that accepts HTML."""
    path = request.url.path
    if (
        path.startswith("/api/")
        or path.endswith((".json", ".csv", ".md", ".svg", ".png"))
        or path in ("/livez", "/readyz", "/metrics")
    ):
        return False
    return "text/html" in request.headers.get("accept", "")
