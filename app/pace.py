"""How often one address may ask for what is costly."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from typing import Final

from starlette.requests import Request

from app.problems import Problem

TIMES: Final = 10
SECONDS: Final = 60.0
KEPT_ADDRESSES: Final = 4096


class Pace:
    """At most `times` in any stretch of `seconds` for each address; the address not seen for longest is forgotten."""

    def __init__(self, times: int = TIMES, seconds: float = SECONDS) -> None:
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


def keep_pace(request: Request) -> None:
    """Refuse an address that asks too often. On a loopback address the server has no pace.

    Raises:
        Problem: it asks too often.
    """
    pace: Pace | None = request.app.state.pace
    address = "" if request.client is None else request.client.host
    if pace is not None and not pace.allows(address):
        raise Problem(
            "too_many_requests",
            "this address asked for too many verifications",
            accepted=f"{TIMES} in {SECONDS:g} seconds",
        )
