"""What becomes of a job's row: another state, an end, another attempt, each with the event that tells of it.

Whoever calls these holds the row's lock (app/db/jobs.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlmodel import Session, func, select

from app.db.tables import Calibration, Job, JobEvent, JobPhase, Worker
from app.db.workers import database_now, devices_of, queue_of_worker, serves

MAXIMUM_ATTEMPTS = 3
MAXIMUM_EVENTS = 20_000
"""Of one job; what it says beyond that is dropped, and the log says so."""
WAITING_DAYS = 7
"""A job that waited longer is given up."""
RUNNING = ("starting", "running")
WAITING = ("queued", "waiting_for_hardware")
FINAL = ("succeeded", "failed", "cancelled", "timed_out", "lost")

Orders = Literal["go_on", "cancel", "superseded"]


@dataclass(frozen=True, slots=True)
class Run:
    """One attempt of a job by one worker."""

    job_id: str
    attempt: int
    worker_id: str
    spec: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended, and what is to be kept of it."""

    state: str
    message: str = ""
    failure_kind: str | None = None
    result: Mapping[str, Any] | None = None
    phase_seconds: Mapping[str, float] = field(default_factory=dict[str, float])
    step_seconds_ratio: float | None = None
    peak_bytes_ratio: float | None = None


def wait(session: Session, job: Job, workers: Sequence[Worker]) -> None:
    """The job waits: for its turn where one of the live workers serves it, else for hardware."""
    if any(serves(worker, job) for worker in workers):
        go(session, job, "queued", "Waits for its turn.")
    else:
        go(session, job, "waiting_for_hardware", _missing(job, workers))


def _missing(job: Job, workers: Sequence[Worker]) -> str:
    """What the job waits for, and what is there of it."""
    devices = job.device_class if job.device_count == 1 else f"{job.device_count} x {job.device_class}"
    if job.queue.startswith("worker/"):
        where = "the worker that was asked for"
        workers = [worker for worker in workers if queue_of_worker(worker.id) == job.queue]
        where += f", with {devices}" if workers else ""
    else:
        where = f"a worker with {devices}"
    counts = {worker.name: devices_of(worker, job.device_class) for worker in workers}
    fewer = [f"{name} has {count}" for name, count in counts.items() if 0 < count < job.device_count]
    return f"Waits for {where}, with job protocol {job.protocol}: {', '.join(fewer) or 'none is there'}."


def orders(job: Job | None, run: Run) -> Orders:
    """What a worker is told about the attempt that it runs."""
    if job is None or job.state not in RUNNING or job.attempts != run.attempt or job.worker_id != run.worker_id:
        return "superseded"
    return "go_on" if job.cancel_requested_at is None else "cancel"


def tell(session: Session, job: Job, event: str, data: Mapping[str, Any]) -> None:
    """Add an event; the job's row is locked, so its number is the next."""
    session.flush()
    last = session.exec(select(func.max(JobEvent.number)).where(JobEvent.job_id == job.id)).one()
    number = (last or 0) + 1
    session.add(JobEvent(job_id=job.id, number=number, event=event, data=dict(data), at=database_now(session)))


def go(session: Session, job: Job, state: str, message: str) -> None:
    """The job is in another state, and says so."""
    job.state, job.message = state, message
    if state != "running":
        job.phase = None
    tell(session, job, "state", {"event": "state", "state": state, "message": message, "attempt": job.attempts})


def say(session: Session, job: Job, events: Sequence[Mapping[str, Any]]) -> None:
    """What the running process said, in order."""
    session.flush()
    number = session.exec(select(func.max(JobEvent.number)).where(JobEvent.job_id == job.id)).one() or 0
    at = database_now(session)
    for event in events:
        if event["event"] == "phase":
            if job.state != "running":
                number += 1
                data = {"event": "state", "state": "running", "message": "It runs.", "attempt": job.attempts}
                session.add(JobEvent(job_id=job.id, number=number, event="state", data=data, at=at))
            job.state, job.phase, job.message = "running", event["phase"], event["message"] or "It runs."
        if number >= MAXIMUM_EVENTS:
            continue
        number += 1
        kept = _TOO_MUCH if number == MAXIMUM_EVENTS else event
        session.add(JobEvent(job_id=job.id, number=number, event=kept["event"], data=dict(kept), at=at))


_TOO_MUCH: Mapping[str, Any] = {"event": "log", "message": "It says too much: the rest is dropped."}


def end(session: Session, job: Job, ending: Ending) -> None:
    """The job is in a final state and stays there."""
    job.failure_kind = ending.failure_kind
    job.result = None if ending.result is None else dict(ending.result)
    job.step_seconds_ratio, job.peak_bytes_ratio = ending.step_seconds_ratio, ending.peak_bytes_ratio
    job.finished_at = database_now(session)
    for phase, seconds in ending.phase_seconds.items():
        session.add(JobPhase(job_id=job.id, phase=phase, seconds=seconds))
    calibration = (ending.result or {}).get("calibration")
    if ending.state == "succeeded" and calibration is not None:
        device_id = job.spec["device_id"]
        session.add(
            Calibration(id=job.id, device_class=job.device_class, device_id=device_id, document=calibration)
        )  # fmt: skip
    go(session, job, ending.state, ending.message)


def lost(job: Job) -> Ending:
    """It took too many workers with it."""
    return Ending("lost", f"Its worker died {job.attempts} times while it ran; it is not tried again.")


def hand_back(job: Job) -> None:
    """Another hand-over to the engine, under a name that it has not seen."""
    job.dispatches += 1
    job.is_dispatched = False
    job.worker_id = None


def requeue(session: Session, job: Job, reason: str) -> None:
    """The job waits for another attempt."""
    hand_back(job)
    go(session, job, "queued", f"Waits for another attempt: {reason}")


def take_away(session: Session, job: Job) -> None:
    """Its worker is no more."""
    if job.cancel_requested_at is not None:
        end(session, job, Ending("cancelled", "Cancelled; its worker had died."))
    elif job.attempts >= MAXIMUM_ATTEMPTS:
        end(session, job, lost(job))
    else:
        requeue(session, job, "its worker died.")


def tidy_one(session: Session, job: Job, workers: Sequence[Worker], now: datetime) -> None:
    """What the janitor does about a job that has not ended."""
    if job.state in RUNNING:
        if not any(worker.id == job.worker_id for worker in workers):
            take_away(session, job)
        return
    if now - job.created_at > timedelta(days=WAITING_DAYS):
        end(session, job, Ending("timed_out", f"It waited for {WAITING_DAYS} days, and no worker could run it."))
        return
    served = any(serves(worker, job) for worker in workers)
    if served == (job.state == "waiting_for_hardware"):
        wait(session, job, workers)
