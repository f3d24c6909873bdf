"""The one route that is asked thousands of times a second, answered before FastAPI's routing and parameter machinery.

The route itself stays registered, so that it is described; what runs is the same function. Routing, the exit stacks
and the solving of parameters cost more than half of a bare endpoint's time.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.estimates import create_estimate
from app.problems import Problem
from app.responses import respond

PATH = "/api/v1/estimates"


class HotRoute:
    """Answers POST /api/v1/estimates; everything else goes on to the application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            response = await create_estimate(request)
        except Problem as problem:
            response = respond(request, problem)
        await response(scope, receive, send)
