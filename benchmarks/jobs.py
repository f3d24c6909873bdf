"""What a job costs beside its own work: `python -m benchmarks.jobs`, with a pretended runner that loads nothing.

Submission to the first word of the job's process; cancellation to no process left; the processor time that a worker
takes while it is idle and while a job runs. SQLite, and PostgreSQL where TRAINFIT_TEST_POSTGRES_URL names one.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import psutil

from app.db.rhythm import RHYTHM
from app.jobs.tree import JOB_MARK, marked
from benchmarks.faults import own_database
from tests.app.jobs.fleet import Fleet

TIMES = 7
WATCH_SECONDS = 5.0
TARGETS = {"start": 1.0, "cancel": 2.0, "idle": 0.05, "busy": 0.05}


def measure(url: str, directory: Path) -> dict[str, float]:
    """Medians in seconds, and shares of one core."""
    fleet = Fleet(url, directory)
    try:
        worker = psutil.Process(fleet.start(rhythm=RHYTHM).pid)
        fleet.wait(fleet.submit("measure", 1, 0.0))  # the engine looks for new queues once a second
        idle = _share(worker)
        starts, cancels = zip(*(_start_and_cancel(fleet) for _ in range(TIMES)), strict=True)
        job_id = fleet.submit("hang")
        fleet.wait(job_id, lambda job: job.state == "running")
        busy = _share(worker)
        return {"start": median(starts), "cancel": median(cancels), "idle": idle, "busy": busy}
    finally:
        fleet.close()


def _start_and_cancel(fleet: Fleet) -> tuple[float, float]:
    job_id = fleet.submit("hang")
    fleet.wait(job_id, lambda job: job.state == "running")
    at = {event.data["state"]: event.at for event in fleet.jobs.events(job_id) if event.event == "state"}
    started = (at["running"] - at["queued"]).total_seconds()
    cancelled_at = time.monotonic()
    fleet.jobs.cancel(job_id)
    while list(marked(JOB_MARK, f"{job_id}:1")):
        time.sleep(0.005)
    cancelled = time.monotonic() - cancelled_at
    fleet.wait(job_id)
    return started, cancelled


def _share(worker: psutil.Process) -> float:
    """Of one core, over some seconds."""
    before = worker.cpu_times()
    time.sleep(WATCH_SECONDS)
    after = worker.cpu_times()
    return (after.user + after.system - before.user - before.system) / WATCH_SECONDS


def main() -> int:
    """Measure and compare with the targets; 1 when one is missed."""
    missed = 0
    for name, url in {"SQLite": "sqlite://", "PostgreSQL": os.environ.get("TRAINFIT_TEST_POSTGRES_URL", "")}.items():
        if not url:
            print(f"{name}: left out, TRAINFIT_TEST_POSTGRES_URL is not set")
            continue
        with tempfile.TemporaryDirectory() as directory, own_database(url, Path(directory)) as own:
            found = measure(own, Path(directory))
        missed += sum(value > TARGETS[what] for what, value in found.items())
        print(
            f"{name}: process after {found['start']:.2f} s, none left {found['cancel']:.2f} s after cancel, "
            f"worker takes {found['idle']:.1%} of a core idle and {found['busy']:.1%} beside a job"
        )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
