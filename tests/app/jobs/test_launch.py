"""What a job's process says, as it is kept."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from app.jobs.launch import (
    Events,
    Launch,
    Order,
    _event_of,  # pyright: ignore[reportPrivateUsage]
    run,
)
from app.jobs.spec import JobSpec
from tests.app.jobs.fleet import RUNNER


@pytest.mark.parametrize("line", [b"a\0b", b'{"event": "log", "message": "a\\u0000b"}'])
def test_no_event_holds_what_postgresql_cannot_store(line: bytes) -> None:
    assert _event_of(line) == {"event": "log", "message": "a\N{REPLACEMENT CHARACTER}b"}


@pytest.mark.skipif(sys.platform == "win32", reason="there is no worker")
def test_all_that_was_said_arrives_and_no_thread_stays_behind(tmp_path: Path) -> None:
    steps = 2500
    spec = JobSpec(kind="measure", device_class="cpu", device_id="this-cpu", config={"do": ["measure", steps, 0.0]})
    launch = Launch(
        spec=spec, directory=tmp_path, mark="launch:1", worker_mark="launch", memory_cap_bytes=2**40, module=RUNNER
    )
    said: list[int] = []

    def guard(events: Events) -> Order:
        said.extend(event["step"] for event in events if event["event"] == "sample")
        return "go_on"

    before = threading.active_count()
    assert run(launch, guard).kind == "result"
    assert said == list(range(1, steps + 1))
    assert threading.active_count() == before
