"""Children that hang, hoard, crash or are not wanted any more: the one who asks gets a kind, and asks on."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.jobs.isolated import Failure, IsolatedWorker, Ticket, WorkFailed
from app.jobs.wire import MAXIMUM_REPLY_BYTES, MAXIMUM_REQUEST_BYTES, Limits

LIMITS = Limits(memory_bytes=2**29, deadline_seconds=20)
SHORT = Limits(memory_bytes=2**29, deadline_seconds=0.3)

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture(scope="module")
def worker() -> Iterator[IsolatedWorker]:
    made = IsolatedWorker("tests.app.jobs.misbehaving")
    yield made
    made.close()


def failure(worker: IsolatedWorker, payload: list[Any], limits: Limits = LIMITS) -> tuple[Failure, str]:
    with pytest.raises(WorkFailed) as caught:
        worker.run(payload, limits)
    return caught.value.kind, str(caught.value)


def wait_for(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it never came about"
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_result_comes_back(worker: IsolatedWorker) -> None:
    value = {"text": "ü\n\ud800", "numbers": [1, 2.5, None]}
    assert worker.run(["echo", value], LIMITS) == value


@pytest.mark.parametrize(
    ("payload", "limits", "kind"),
    [
        (["spin"], SHORT, "timed_out"),
        (["hoard", 2**40], LIMITS, "out_of_memory"),
        (["hoard", 2**30], LIMITS, "out_of_memory"),
        (["raise", "no such op"], LIMITS, "crashed"),
        (["segfault"], LIMITS, "crashed"),
        (["end", 3], LIMITS, "crashed"),
        (["babble", MAXIMUM_REPLY_BYTES], LIMITS, "crashed"),
    ],
    ids=["hangs", "hoards a tebibyte", "hoards a gibibyte", "raises", "segfaults", "exits", "babbles"],
)
def test_each_end_has_its_kind_and_the_next_request_is_served(
    worker: IsolatedWorker, payload: list[Any], limits: Limits, kind: Failure
) -> None:
    worker.run(["echo", 1], LIMITS)
    server = worker.pid
    assert failure(worker, payload, limits)[0] == kind
    assert worker.run(["echo", 2], LIMITS) == 2
    assert worker.pid == server


def test_a_raised_error_is_named(worker: IsolatedWorker) -> None:
    assert failure(worker, ["raise", "no such op"]) == ("crashed", "RuntimeError: no such op")


def test_a_request_that_is_too_large_is_not_sent(worker: IsolatedWorker) -> None:
    with pytest.raises(ValueError, match="at most"):
        worker.run(["echo", "x" * MAXIMUM_REQUEST_BYTES], LIMITS)
    assert worker.run(["echo", 1], LIMITS) == 1


def test_a_cancelled_request_ends_its_child(worker: IsolatedWorker, tmp_path: Path) -> None:
    ticket, mark = Ticket(), tmp_path / "pid"
    kinds: list[Failure] = []

    def ask() -> None:
        with pytest.raises(WorkFailed) as caught:
            worker.run(["sleep", 60, str(mark)], LIMITS, ticket)
        kinds.append(caught.value.kind)

    thread = threading.Thread(target=ask)
    thread.start()
    wait_for(lambda: mark.exists() and bool(mark.read_text()))
    pid = int(mark.read_text())
    ticket.cancel()
    thread.join(5)
    assert kinds == ["cancelled"]
    wait_for(lambda: not is_running(pid))


def test_what_was_cancelled_before_it_began_is_not_begun(worker: IsolatedWorker) -> None:
    ticket = Ticket()
    ticket.cancel()
    with pytest.raises(WorkFailed, match="nobody waits"):
        worker.run(["echo", 1], LIMITS, ticket)


def test_two_run_at_once_and_a_hanging_one_does_not_hold_up_the_other(worker: IsolatedWorker, tmp_path: Path) -> None:
    mark, ticket = tmp_path / "pid", Ticket()

    def hang() -> None:
        with pytest.raises(WorkFailed):
            worker.run(["sleep", 60, str(mark)], LIMITS, ticket)

    thread = threading.Thread(target=hang)
    thread.start()
    wait_for(mark.exists)
    assert worker.run(["echo", 1], LIMITS) == 1
    ticket.cancel()
    thread.join(5)


def test_a_killed_child_is_reported(worker: IsolatedWorker, tmp_path: Path) -> None:
    mark = tmp_path / "pid"

    def kill() -> None:
        wait_for(lambda: mark.exists() and bool(mark.read_text()))
        os.kill(int(mark.read_text()), signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    assert failure(worker, ["sleep", 60, str(mark)])[0] == "out_of_memory"
    thread.join()


def test_a_killed_server_is_started_anew(worker: IsolatedWorker, tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    worker.run(["echo", 1], LIMITS)
    server = worker.pid
    assert server is not None

    def kill() -> None:
        wait_for(lambda: mark.exists() and bool(mark.read_text()))
        os.kill(server, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    assert failure(worker, ["sleep", 60, str(mark)])[0] == "crashed"
    thread.join()
    wait_for(lambda: not is_running(int(mark.read_text())))
    assert worker.run(["echo", 2], LIMITS) == 2
    assert worker.pid != server


def test_children_see_no_secrets(worker: IsolatedWorker) -> None:
    seen = worker.run(["look"], LIMITS)
    assert seen["parent"] == worker.pid
    assert seen["environment"]["HF_HUB_OFFLINE"] == "1"
    assert not [name for name in seen["environment"] if "TOKEN" in name or name.startswith("TRAINFIT_")]


def test_no_process_outlives_its_owner(tmp_path: Path) -> None:
    own, mark = IsolatedWorker("tests.app.jobs.misbehaving"), tmp_path / "pid"
    thread = threading.Thread(target=lambda: failure(own, ["sleep", 60, str(mark)]))
    thread.start()
    wait_for(lambda: mark.exists() and bool(mark.read_text()))
    server = own.pid
    own.close()
    thread.join(5)
    assert server is not None
    assert not is_running(server)
    assert not is_running(int(mark.read_text()))


def test_a_module_that_cannot_start_is_unavailable() -> None:
    own = IsolatedWorker("tests.app.jobs.nothing_like_it")
    assert failure(own, ["echo", 1])[0] == "unavailable"
    own.close()
