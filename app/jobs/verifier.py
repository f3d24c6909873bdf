"""Verification for the web process and the command line: cached, at most two at once, each in a child of its own.

This module loads neither torch nor transformers; `app.jobs.verification` does, in the fork server's process.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import TypeAdapter

from app.jobs.isolated import IsolatedWorker, Ticket, WorkFailed
from app.jobs.wire import Limits
from planner.contract import Answer, EstimateRequest
from planner.hardware import Machine
from planner.version import CATALOG_VERSION, ESTIMATOR_VERSION

AT_ONCE: Final = 2
WAITING: Final = 8
"""More waiting requests than this are refused: each holds a thread of the server."""
KEPT_ANSWERS: Final = 256
WORK_MODULE: Final = "app.jobs.verification"
_MACHINES: Final = TypeAdapter(Machine)


class Busy(Exception):
    """Too many verifications wait already."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be verified."""

    request: EstimateRequest
    config: Mapping[str, Any]
    machine: Machine
    advice: bool = True

    def payload(self) -> dict[str, Any]:
        """The question as JSON values."""
        return {
            "request": self.request.model_dump(mode="json"),
            "config": dict(self.config),
            "machine": _MACHINES.dump_python(self.machine, mode="json"),
            "advice": self.advice,
        }

    def sha256(self) -> str:
        """What the answer depends on: the question and the versions of what answers it."""
        parts = [ESTIMATOR_VERSION, CATALOG_VERSION, self.payload()]
        return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class Verifier:
    """Asks the fork server, remembers what it said."""

    def __init__(self, limits: Limits, worker: IsolatedWorker | None = None) -> None:
        self._limits = limits
        self._worker = worker or IsolatedWorker(WORK_MODULE)
        self._running = threading.BoundedSemaphore(AT_ONCE)
        self._places = threading.BoundedSemaphore(AT_ONCE + WAITING)
        self._lock = threading.Lock()
        self._answers: OrderedDict[str, Answer] = OrderedDict()

    def verify(self, question: Question, ticket: Ticket | None = None) -> Answer:
        """The verified answer.

        Raises:
            Busy: too many wait already.
            WorkFailed: the child ended without an answer.
        """
        key = question.sha256()
        known = self._known(key)
        if known is not None:
            return known
        if not self._places.acquire(blocking=False):
            raise Busy
        try:
            with self._running:
                answer = Answer.model_validate_json(self._worker.run(question.payload(), self._limits, ticket))
        finally:
            self._places.release()
        self._remember(key, answer)
        return answer

    def close(self) -> None:
        """End the processes."""
        self._worker.close()

    def _known(self, key: str) -> Answer | None:
        with self._lock:
            if key in self._answers:
                self._answers.move_to_end(key)
            return self._answers.get(key)

    def _remember(self, key: str, answer: Answer) -> None:
        with self._lock:
            self._answers[key] = answer
            if len(self._answers) > KEPT_ANSWERS:
                self._answers.popitem(last=False)


__all__ = ["Busy", "Limits", "Question", "Ticket", "Verifier", "WorkFailed"]
