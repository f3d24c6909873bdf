"""The one route that is asked thousands of times a second, answered before FastAPI's routing and parameter machinery.

The route itself stays registered, so that it is described; what runs is the same function. Routing, the exit stacks
and the solving of parameters cost more than half of a bare endpoint's time.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.estimates import answered
from app.guard import JSON_TYPE
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
            body = await answered(request)
        except Problem as problem:
            await respond(request, problem)(scope, receive, send)
            return
        headers = [(b"content-length", str(len(body)).encode()), JSON_TYPE]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
