"""How often one address may ask for what is costly."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Mapping
from typing import Final

from starlette.requests import Request

from app.problems import Problem

PACES: Final[Mapping[str, tuple[int, float]]] = {
    "verifications": (10, 60.0),
    "reports": (30, 3600.0),
    "searches": (20, 60.0),
}
"""what is costly -> how often one address may ask for it, in how many seconds"""
KEPT_ADDRESSES: Final = 4096


class Pace:
    """At most `times` in any stretch of `seconds` for each address; the address not seen for longest is forgotten."""

    def __init__(self, times: int, seconds: float) -> None:
        self._times = times
        self._seconds = seconds
        self._lock = threading.Lock()
        self._seen: OrderedDict[str, deque[float]] = OrderedDict()

    def allows(self, address: str, now: float | None = None) -> bool:
        """Whether the address may ask now; if so, it has asked."""
        now = time.monotonic() if now is None else now
        with self._lock:
            asked = self._seen.setdefault(address, deque())
            self._seen.move_to_end(address)
            while asked and now - asked[0] >= self._seconds:
                asked.popleft()
            if len(self._seen) > KEPT_ADDRESSES:
                self._seen.popitem(last=False)
            if len(asked) >= self._times:
                return False
            asked.append(now)
            return True


def all_paces() -> dict[str, Pace]:
    """A pace for everything that has one."""
    return {what: Pace(times, seconds) for what, (times, seconds) in PACES.items()}


def keep_pace(request: Request, what: str) -> None:
    """Refuse an address that asks too often. On a loopback address the server has no pace.

    Raises:
        Problem: it asks too often.
    """
    pace: Pace | None = request.app.state.paces.get(what)
    address = "" if request.client is None else request.client.host
    if pace is not None and not pace.allows(address):
        times, seconds = PACES[what]
        raise Problem(
            "too_many_requests",
            f"this address asked for too many {what}",
            accepted=f"{times} in {seconds:g} seconds",
        )
