"""Who may start and end jobs: on a loopback address whoever reaches it, elsewhere whoever shows the token."""

from __future__ import annotations

import hmac

from fastapi import Request

from app.guard import is_loopback
from app.problems import Problem
from app.settings import Settings


def needs_token(settings: Settings) -> bool:
    """Whether a token has to be shown."""
    return not is_loopback(settings.host)


def require_token(request: Request, shown: str | None = None) -> None:
    """Refuse who shows no token, or a wrong one. A page's form sends it as a field, a program as a header.

    Raises:
        Problem: jobs are off here (403), or the token is missing or wrong (401).
    """
    settings: Settings = request.app.state.settings
    if not needs_token(settings):
        return
    if settings.token is None:
        raise Problem("jobs_are_off", "this server is reached by others and has no token for jobs")
    given = shown if shown is not None else _bearer(request)
    expected = settings.token.get_secret_value()
    if not hmac.compare_digest(given.encode(), expected.encode()):
        what = "the token is wrong" if given else "a token is needed"
        raise Problem(
            "token_needed", f"{what} to start and end jobs", field="Authorization", accepted="Bearer, and the token"
        )


def may_start_jobs(request: Request) -> bool:
    """Whether the one who asks may, by what the request itself shows."""
    try:
        require_token(request)
    except Problem:
        return False
    return True


def _bearer(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.casefold() == "bearer" else ""
