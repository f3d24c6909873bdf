"""What a job's process says, as it is kept."""

from __future__ import annotations

import pytest

from app.jobs.launch import _event_of  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("line", [b"a\0b", b'{"event": "log", "message": "a\\u0000b"}'])
def test_no_event_holds_what_postgresql_cannot_store(line: bytes) -> None:
    assert _event_of(line) == {"event": "log", "message": "a\N{REPLACEMENT CHARACTER}b"}
