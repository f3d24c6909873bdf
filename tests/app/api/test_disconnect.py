"""A caller who hangs up, over a real socket: the child goes, the server stays."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import httpx2 as httpx
import pytest
import uvicorn

from app.jobs.isolated import IsolatedWorker, Ticket
from app.jobs.verifier import Question
from app.jobs.wire import Limits
from app.main import create_app
from app.plans import Plans
from app.settings import Settings
from planner.contract import Answer
from tests.app.conftest import fake_machine, unreachable_hub
from tests.app.fakes import FakeVerifier
from tests.app.jobs.test_isolated import is_running, wait_for

BODY = {"model": {"id": "meta-llama/Llama-3.1-8B"}, "machine": {"device": "nvidia-rtx-4090-24gb"}}


class Sleeping(FakeVerifier):
    """Its child sleeps for a minute."""

    def __init__(self, mark: Path) -> None:
        super().__init__()
        self._worker = IsolatedWorker("tests.app.jobs.misbehaving")
        self._mark = mark

    def verify(self, question: Question, ticket: Ticket | None = None) -> Answer:  # noqa: ARG002
        return self._worker.run(["sleep", 60, str(self._mark)], Limits(2**29, 60), ticket)


def test_closing_the_connection_ends_the_work(settings: Settings, tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    plans = Plans(settings, look=fake_machine, hub=unreachable_hub(settings), verifier=Sleeping(mark))
    listener = socket.create_server(("127.0.0.1", 0))
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = uvicorn.Server(uvicorn.Config(create_app(settings, plans), log_level="critical"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{address}/api/v1/verifications", json=BODY, timeout=httpx.Timeout(5, read=1.5))
        wait_for(lambda: mark.exists() and bool(mark.read_text()))
        wait_for(lambda: not is_running(int(mark.read_text())))
        assert httpx.get(f"{address}/livez").status_code == 200
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
