"""What stands before every request: the host it asks for, the site it comes from, the size of its body.

Plain ASGI, because the estimate endpoint is measured against a bare one and Starlette's BaseHTTPMiddleware costs more
than the estimate does.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.head import as_get, asks_for_head, without_body
from app.problems import Problem

MAXIMUM_BODY_BYTES = 2**20
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_SECURITY_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (
        b"content-security-policy",
        b"default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        b"form-action 'self'; base-uri 'none'; frame-ancestors 'self'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
)

JSON_TYPE = (b"content-type", b"application/json")
_DATA_HEADERS = ((b"x-content-type-options", b"nosniff"),)
"""JSON renders nothing, so that only its type needs protection; each header costs as much as a formula."""

Respond = Callable[[Request, Problem], Response]


def is_loopback(host: str) -> bool:
    """Whether a server bound to `host` is reached from this computer only."""
    name = host.strip("[]").casefold()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


class Guard:
    """Refuses foreign hosts (DNS rebinding), foreign sites (CSRF) and large bodies; sets the security headers."""

    def __init__(self, app: ASGIApp, *, respond: Respond, loopback_only: bool, allowed_hosts: Iterable[str]) -> None:
        self._app = app
        self._respond = respond
        self._loopback_only = loopback_only
        self._allowed_hosts = frozenset(host.casefold() for host in allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        send = _with_security_headers(send)
        if asks_for_head(scope):
            scope, send = as_get(scope), without_body(send)
        headers: dict[bytes, bytes] = dict(scope["headers"])
        problem = self._refusal(scope["method"], headers)
        if problem is not None:
            await self._respond(Request(scope), problem)(scope, receive, send)
            return
        limited = b"content-length" in headers or scope["method"] in _SAFE_METHODS
        await self._app(scope, receive if limited else _limited(receive), send)

    def _refusal(self, method: str, headers: Mapping[bytes, bytes]) -> Problem | None:
        host = headers.get(b"host", b"").decode("latin-1")
        if not self._knows(host):
            return Problem("unknown_host", "this server does not answer under that host name", field="Host", value=host)
        if method in _SAFE_METHODS:
            return None
        if not _same_site(headers, host):
            return Problem("cross_site", "the request came from another site's page", field="Origin")
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or len(length) > 18 or int(length) > MAXIMUM_BODY_BYTES:
            return too_large()
        return None

    def _knows(self, host: str) -> bool:
        name = _host_name(host)
        if self._allowed_hosts:
            return name in self._allowed_hosts
        return not self._loopback_only or name == "localhost" or is_loopback(name)


def too_large() -> Problem:
    """The refusal of a body that is larger than any honest request."""
    return Problem("too_large", "the body is too large", field="body", accepted=f"at most {MAXIMUM_BODY_BYTES} bytes")


def _host_name(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0].casefold()
    return host.partition(":")[0].casefold()


def _same_site(headers: Mapping[bytes, bytes], host: str) -> bool:
    """Browsers say where a request comes from; other clients say nothing and carry no cookies to abuse."""
    site = headers.get(b"sec-fetch-site")
    if site is not None:
        return site in (b"same-origin", b"none")
    origin = headers.get(b"origin")
    return origin is None or origin.decode("latin-1").partition("://")[2].casefold() == host.casefold()


def _limited(receive: Receive) -> Receive:
    """Count the bytes of a body that came without a length."""
    received_bytes = 0

    async def counted() -> Message:
        nonlocal received_bytes
        message = await receive()
        received_bytes += len(message.get("body", b""))
        if received_bytes > MAXIMUM_BODY_BYTES:
            raise too_large()
        return message

    return counted


def _with_security_headers(send: Send) -> Send:
    async def secured(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = message["headers"]
            added = _DATA_HEADERS if JSON_TYPE in headers else _SECURITY_HEADERS
            message["headers"] = [*headers, *added]
        await send(message)

    return secured
