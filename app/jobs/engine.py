"""DBOS, used directly: a durable workflow for each hand-over of a job, and the queues that route them.

Only a worker's process imports this. The workflow has two steps, so that a worker which dies between them goes on with
the second: `attempt` takes the job and runs its process, `settle` writes down how that ended. `JOB_WORKFLOW_VERSION`
rises when these steps or their order change.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer, SetWorkflowID

from app.jobs.spec import PROTOCOL

APPLICATION: Final = "trainfit"
WORKFLOW: Final = "run_job"
JOB_WORKFLOW_VERSION: Final = f"job-protocol-{PROTOCOL}"
POLLING_SECONDS: Final = 0.25
RARE_POLLING_SECONDS: Final = 1.0
"""Of the queue that only one worker serves: polling takes processor time from what is measured."""
WAITS: Final = frozenset({"ENQUEUED", "DELAYED", "PENDING"})
ENDED: Final = ["SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]
MOST_FORGOTTEN: Final = 500
"""At once, so that no transaction holds the engine's tables for long."""

Attempt = Callable[[str, int], "dict[str, Any] | None"]
Settle = Callable[["dict[str, Any]"], None]
_work: dict[str, Any] = {}


@DBOS.step(name="attempt")
def _attempt(job_id: str, dispatch: int) -> dict[str, Any] | None:
    return _work["attempt"](job_id, dispatch)


@DBOS.step(name="settle")
def _settle(attempted: dict[str, Any]) -> None:
    _work["settle"](attempted)


@DBOS.workflow(name=WORKFLOW, max_recovery_attempts=None)
def _run_job(job_id: str, dispatch: int) -> None:
    attempted = _attempt(job_id, dispatch)
    if attempted is not None:
        _settle(attempted)


class Engine:
    """The engine of one worker's process; DBOS allows one in a process."""

    def __init__(self, url: str, worker_id: str, queues: Sequence[str], attempt: Attempt, settle: Settle) -> None:
        _work.update(attempt=attempt, settle=settle)
        self._queues = queues
        self._config: DBOSConfig = {
            "name": APPLICATION,
            "system_database_url": url,
            "executor_id": worker_id,
            "application_version": JOB_WORKFLOW_VERSION,
            "serializer": DBOSPortableJSONSerializer(),
            "log_level": "ERROR",
            "enable_otlp": False,
        }

    def start(self) -> None:
        """Go on with what this worker was doing when it was killed, and take from the queues."""
        logging.getLogger("dbos").setLevel(logging.ERROR)
        DBOS(config=self._config)
        DBOS.listen_queues(self._queues)
        DBOS.launch()
        for name in self._queues:
            seconds = RARE_POLLING_SECONDS if name.startswith("worker/") else POLLING_SECONDS
            DBOS.register_queue(name, worker_concurrency=1, polling_interval_sec=seconds, on_conflict="never_update")

    def stop(self) -> None:
        """Take nothing more; what still runs was told to end."""
        DBOS.destroy(workflow_completion_timeout_sec=0)

    def hand_over(self, queue: str, job_id: str, dispatch: int) -> None:
        """Enqueue a job; a second time under the same number changes nothing."""
        with SetWorkflowID(workflow_id(job_id, dispatch)):
            DBOS.enqueue_workflow(queue, _run_job, job_id, dispatch)

    def has(self, job_id: str, dispatch: int, live_workers: Sequence[str]) -> bool:
        """Whether the engine will still run it: it waits, or a live worker has just taken it."""
        status = DBOS.get_workflow_status(workflow_id(job_id, dispatch))
        if status is None or status.status not in WAITS:
            return False
        return status.status != "PENDING" or status.executor_id in live_workers

    def forget(self, age_seconds: float) -> int:
        """Delete workflows that ended so long ago, with their steps; how many. What a job came to is in our tables, and
        a workflow's name never comes again."""
        before = datetime.fromtimestamp(time.time() - age_seconds, UTC).isoformat()
        ended = DBOS.list_workflows(
            status=ENDED, name=WORKFLOW, completed_before=before, limit=MOST_FORGOTTEN, load_input=False,
            load_output=False,
        )  # fmt: skip
        if ended:
            DBOS.delete_workflows([workflow.workflow_id for workflow in ended])
        return len(ended)


def workflow_id(job_id: str, dispatch: int) -> str:
    """The engine's name of one hand-over."""
    return f"{job_id}:{dispatch}"
