"""Who may see, start and end jobs: on a loopback address whoever reaches it, elsewhere whoever shows the token.

A job holds somebody's plan, which may be a pasted configuration, and its log. A program shows the token in a header; a
page's form in a field; a browser that showed it once has a cookie, with which it may look, and nothing else.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from fastapi import Request
from pydantic import SecretStr
from starlette.responses import Response

from app.guard import is_loopback
from app.problems import Problem
from app.settings import Settings

COOKIE: Final = "trainfit-jobs"
"""Holds what is made from the token and does not lead back to it: it ends when the server's token changes."""


def needs_token(settings: Settings) -> bool:
    """Whether a token has to be shown."""
    return not is_loopback(settings.host)


def require_token(request: Request, shown: str | None = None) -> None:
    """Refuse who shows no token, or a wrong one. A page's form sends it as a field, a program as a header.

    Raises:
        Problem: jobs are off here (403), or the token is missing or wrong (401).
    """
    if needs_token(request.app.state.settings):
        _compare(request, _bearer(request) if shown is None else shown, "start and end")


def require_reader(request: Request) -> None:
    """Refuse who may not see jobs: the token, or the cookie that it was exchanged for.

    Raises:
        Problem: jobs are off here (403), or the token is missing or wrong (401).
    """
    if needs_token(request.app.state.settings) and not may_read(request):
        _compare(request, _bearer(request), "see")


def may_read(request: Request) -> bool:
    """Whether a page may say what jobs do."""
    settings: Settings = request.app.state.settings
    if not needs_token(settings):
        return True
    return settings.token is not None and _same(request.cookies.get(COOKIE, ""), _pass_of(settings.token))


def remember(request: Request, response: Response) -> None:
    """Let the browser that has just shown the token look at jobs from now on."""
    settings: Settings = request.app.state.settings
    if needs_token(settings) and settings.token is not None:
        response.set_cookie(
            COOKIE, _pass_of(settings.token), httponly=True, samesite="strict", secure=request.url.scheme == "https"
        )


def _compare(request: Request, given: str, what_for: str) -> None:
    token: SecretStr | None = request.app.state.settings.token
    if token is None:
        raise Problem("jobs_are_off", "this server is reached by others and has no token for jobs")
    if not _same(given, token.get_secret_value()):
        what = "the token is wrong" if given else "a token is needed"
        raise Problem(
            "token_needed", f"{what} to {what_for} jobs", field="Authorization", accepted="Bearer, and the token"
        )


def may_start_jobs(request: Request) -> bool:
    """Whether the one who asks may, by what the request itself shows."""
    try:
        require_token(request)
    except Problem:
        return False
    return True


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())


def _pass_of(token: SecretStr) -> str:
    return hmac.new(token.get_secret_value().encode(), b"may look at jobs", hashlib.sha256).hexdigest()


def _bearer(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.casefold() == "bearer" else ""
