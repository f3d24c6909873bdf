"""Verifications that take too long to be waited for: each becomes a job, which a worker runs from its beginning."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from app.db.errors import DatabaseUnavailable
from app.jobs.devices import CPU
from app.jobs.rows import row_of
from app.jobs.spec import JobSpec
from app.jobs.verifier import Limits, Question
from planner.contract import Answer

if TYPE_CHECKING:
    from app.db.tables import Job
    from app.jobs.service import JobService

LEAST_DEADLINE_SECONDS: Final = 600.0
"""What a job may take, or as long as a verification that somebody waits for, if that is longer."""
LIBRARIES_BYTES: Final = 2**30
"""What a job's process holds before it verifies: torch and transformers take about half of it here."""


class HandedOver:
    """Verifications as jobs. A database that does not answer is no reason not to verify: then there are none."""

    def __init__(self, jobs: JobService, limits: Limits) -> None:
        self._jobs = jobs
        self._limits = limits

    def find(self, question: Question) -> Job | None:
        """The job that verifies the question, or has done so."""
        with suppress(DatabaseUnavailable):
            return self._jobs.store().alike("verify", question.sha256())
        return None

    def hand_over(self, question: Question) -> Job | None:
        """A job for the question; None where no worker is there to take it."""
        with suppress(DatabaseUnavailable):
            if any(live and CPU in worker.device_classes for worker, live, _ in self._jobs.workers()):
                return self.find(question) or self._submit(question)
        return None

    def _submit(self, question: Question) -> Job:
        spec = JobSpec(
            kind="verify",
            **question.payload(),
            device_class=CPU,
            device_id=question.machine.device.id,
            deadline_seconds=max(LEAST_DEADLINE_SECONDS, self._limits.deadline_seconds),
            memory_cap_bytes=self._limits.memory_bytes + LIBRARIES_BYTES,
        )
        return self._jobs.store().submit(row_of(spec, CPU, question.sha256()))[0]


def answer_of(job: Job) -> Answer | None:
    """What a verifying job found; None while there is nothing."""
    found = (job.result or {}).get("verification")
    return None if found is None else Answer.model_validate(found)
