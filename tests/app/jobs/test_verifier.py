"""What the verifier remembers, and how many it lets in; its worker is made up."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from app.jobs.isolated import IsolatedWorker, Ticket
from app.jobs.verifier import AT_ONCE, WAITING, Busy, Question, Verifier
from app.jobs.wire import Limits
from planner.contract import EstimateRequest
from tests.app.conftest import fake_machine
from tests.app.fakes import fake_estimate

LIMITS = Limits(memory_bytes=2**31, deadline_seconds=60)
CONFIG: dict[str, Any] = {"model_type": "llama"}


class FakeWorker(IsolatedWorker):
    """Answers as `fake_estimate` does and counts how often it was asked."""

    def __init__(self, before: Callable[[], object] = lambda: None) -> None:
        super().__init__("nothing")
        self.asked = 0
        self._before = before

    def run(self, payload: Any, limits: Limits, ticket: Ticket | None = None) -> Any:
        assert (limits, ticket) == (LIMITS, None)
        self.asked += 1
        self._before()
        request = EstimateRequest.model_validate(payload["request"])
        return fake_estimate(request, config=payload["config"], machine=fake_machine()).model_dump_json()


def question(**run: Any) -> Question:
    return Question(EstimateRequest.model_validate({"model": {"config": CONFIG}, "run": run}), CONFIG, fake_machine())


def test_an_answer_is_remembered_by_everything_that_it_depends_on() -> None:
    worker = FakeWorker()
    verifier, asked = Verifier(LIMITS, worker), question()
    assert verifier.verify(asked) is verifier.verify(question())
    assert worker.asked == 1
    verifier.verify(question(method="qlora"))
    verifier.verify(replace(asked, config={**CONFIG, "hidden_size": 8}))
    verifier.verify(replace(asked, machine=replace(asked.machine, in_use_bytes=1)))
    verifier.verify(replace(asked, advice=False))
    assert worker.asked == 5


def test_only_the_last_answers_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.jobs.verifier.KEPT_ANSWERS", 2)
    worker = FakeWorker()
    verifier = Verifier(LIMITS, worker)
    for length in (1, 2, 3, 3, 2, 1):
        verifier.verify(question(sequence_length=length))
    assert worker.asked == 4


def test_two_run_at_once_some_wait_and_the_rest_is_refused() -> None:
    gate, lock = threading.Event(), threading.Lock()
    inside: list[int] = [0, 0]

    def hold() -> None:
        with lock:
            inside[0] += 1
            inside[1] = max(inside)
        gate.wait(10)
        with lock:
            inside[0] -= 1

    worker = FakeWorker(hold)
    verifier = Verifier(LIMITS, worker)
    refused: list[int] = []

    def ask(number: int) -> None:
        try:
            verifier.verify(question(sequence_length=number))
        except Busy:
            refused.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(1, AT_ONCE + WAITING + 4)]
    for thread in threads:
        thread.start()
    while len(refused) < 3:
        threads[-1].join(0.05)
    gate.set()
    for thread in threads:
        thread.join(10)
    assert (worker.asked, inside[1], len(refused)) == (AT_ONCE + WAITING, AT_ONCE, 3)


def test_the_web_process_loads_neither_torch_nor_transformers() -> None:
    script = (
        "import sys; from app.main import create_app; from app.jobs.verifier import Verifier; create_app();"
        "heavy = ('torch', 'transformers', 'peft', 'accelerate', 'planner.verify');"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
