"""HEAD, answered as GET without its body (RFC 9110, section 9.3.2): FastAPI's routes know GET alone."""

from __future__ import annotations

from starlette.types import Message, Scope, Send

STREAMS = "/events"
"""The end of a path that streams: a GET of it ends only when its reader leaves, so that HEAD is refused there."""


def asks_for_head(scope: Scope) -> bool:
    """Whether a request is to be answered without its body."""
    return scope["method"] == "HEAD" and not scope["path"].endswith(STREAMS)


def as_get(scope: Scope) -> Scope:
    """The same request as a GET."""
    return {**scope, "method": "GET"}


def without_body(send: Send) -> Send:
    """Send the status and headers, the length of the body among them, and none of the body."""

    async def bare(message: Message) -> None:
        await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

    return bare
