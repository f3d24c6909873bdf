"""The jobs: every change of state is one transaction here, together with the event that tells of it.

A worker writes with the attempt that it runs (`Run`); what a worker that was given up for dead writes is refused.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import defer
from sqlmodel import Session, col, func, select

from app.db.database import Database
from app.db.rhythm import Rhythm
from app.db.tables import Calibration, Job, JobEvent, JobPhase, Worker
from app.db.workers import database_now, forget_old_workers, live_workers, serves

MAXIMUM_ATTEMPTS = 3
MAXIMUM_EVENTS = 20_000
"""Of one job; what it says beyond that is dropped, and the log says so."""
WAITING_DAYS = 7
"""A job that waited longer is given up."""
RUNNING = ("starting", "running")
WAITING = ("queued", "waiting_for_hardware")
FINAL = ("succeeded", "failed", "cancelled", "timed_out", "lost")

Orders = Literal["go_on", "cancel", "superseded"]


class KeyReused(Exception):
    """An idempotency key came again with another request."""


class UnknownJob(Exception):
    """There is no job of that id."""


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


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list, newest first."""

    items: Sequence[Job]
    next: str | None


def new_id() -> str:
    """A UUID of version 7 (RFC 9562, 5.7): 48 bits of milliseconds, then random ones, so that ids sort by time."""
    milliseconds = time.time_ns() // 1_000_000
    bits = milliseconds << 80 | 0x7 << 76 | secrets.randbits(12) << 64 | 0b10 << 62 | secrets.randbits(62)
    return str(UUID(int=bits))


class JobStore:
    """Rows of the `job` and `job_event` tables."""

    def __init__(self, database: Database, rhythm: Rhythm) -> None:
        self._database = database
        self._rhythm = rhythm

    # --- for people --------------------------------------------------------------------------------------------

    def submit(self, job: Job) -> tuple[Job, bool]:
        """Store a new job, or find the one that was submitted under the same key; whether it is new.

        Raises:
            KeyReused: the key belongs to another request.
        """
        try:
            with self._database.writing() as session:
                known = _by_key(session, job.idempotency_key, job.request_sha256)
                if known is not None:
                    return known, False
                served = _is_served(session, self._rhythm, job)
                session.add(job)
                _go(session, job, "queued" if served else "waiting_for_hardware", _waits_for(job, served=served))
                return job, True
        except IntegrityError:  # somebody with the same key was quicker
            with self._database.reading() as session:
                known = _by_key(session, job.idempotency_key, job.request_sha256)
            if known is None:
                raise
            return known, False

    def known_by(self, key: str, request_sha256: str) -> Job | None:
        """The job that was submitted under a key; None when there is none.

        Raises:
            KeyReused: the key belongs to another request.
        """
        with self._database.reading() as session:
            return _by_key(session, key, request_sha256)

    def alike(self, kind: str, request_sha256: str) -> Job | None:
        """The newest job that was asked the same and did not end badly."""
        query = select(Job).where(Job.kind == kind, Job.request_sha256 == request_sha256)
        query = query.where(col(Job.state).in_((*WAITING, *RUNNING, "succeeded"))).order_by(col(Job.id).desc())
        with self._database.reading() as session:
            return session.exec(query.limit(1)).first()

    def get(self, job_id: str) -> Job:
        """One job.

        Raises:
            UnknownJob: there is none of that id.
        """
        with self._database.reading() as session:
            job = session.get(Job, job_id)
        if job is None:
            raise UnknownJob(job_id)
        return job

    def find(self, *, states: Sequence[str] = (), limit: int = 50, before: str | None = None) -> Page:
        """Jobs in some states, or all, newest first, without results; `before` is the last id of the page before."""
        without = defer(col(Job.result))  # pyright: ignore[reportArgumentType]  # it is the mapped attribute
        query = select(Job).options(without).order_by(col(Job.id).desc()).limit(limit + 1)
        if states:
            query = query.where(col(Job.state).in_(states))
        if before is not None:
            query = query.where(col(Job.id) < before)
        with self._database.reading() as session:
            found = list(session.exec(query))
        return Page(found[:limit], found[limit - 1].id if len(found) > limit else None)

    def events(self, job_id: str, after: int = 0, limit: int = 1000) -> Sequence[JobEvent]:
        """What a job said after an event, in order."""
        query = select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.number > after)
        with self._database.reading() as session:
            return list(session.exec(query.order_by(col(JobEvent.number)).limit(limit)))

    def cancel(self, job_id: str) -> Job:
        """End a job: at once when nobody runs it, else its worker does; a job that ended stays as it is.

        Raises:
            UnknownJob: there is none of that id.
        """
        with self._locked(job_id) as (session, job):
            if job.state in WAITING:
                _end(session, job, Ending("cancelled", "Cancelled before it started."))
            elif job.state in RUNNING and job.cancel_requested_at is None:
                job.cancel_requested_at = database_now(session)
                _tell(session, job, "log", {"event": "log", "message": "Cancellation was asked for."})
            return job

    # --- for workers -------------------------------------------------------------------------------------------

    def to_dispatch(self, queues: Sequence[str], protocol: int) -> Sequence[Job]:
        """Queued jobs that were not yet handed to the engine, oldest first."""
        query = select(Job).where(
            Job.state == "queued", Job.is_dispatched == False, Job.protocol == protocol, col(Job.queue).in_(queues)  # noqa: E712
        )  # fmt: skip
        with self._database.reading() as session:
            return list(session.exec(query.order_by(col(Job.id)).limit(20)))

    def dispatched(self, queues: Sequence[str]) -> Sequence[Job]:
        """Queued jobs that the engine should have."""
        query = select(Job).where(Job.state == "queued", Job.is_dispatched == True, col(Job.queue).in_(queues))  # noqa: E712
        with self._database.reading() as session:
            return list(session.exec(query.limit(100)))

    def mark_dispatched(self, job_id: str, dispatch: int) -> None:
        """The engine has it."""
        with self._locked(job_id) as (_, job):
            if job.dispatches == dispatch:
                job.is_dispatched = True

    def redispatch(self, job_id: str, dispatch: int) -> None:
        """The engine lost it: hand it over again, under another name."""
        with self._locked(job_id) as (_, job):
            if job.dispatches == dispatch and job.state == "queued":
                _hand_back(job)

    def begin(self, job_id: str, dispatch: int, worker_id: str) -> Run | None:
        """Take a job; None when it isn't ours to take: cancelled, given to another, tried too often."""
        with self._locked(job_id) as (session, job):
            ours = job.state in WAITING or (job.state in RUNNING and job.worker_id == worker_id)
            if job.dispatches != dispatch or not ours:
                return None
            if job.cancel_requested_at is not None:
                _end(session, job, Ending("cancelled", "Cancelled."))
                return None
            if job.attempts >= MAXIMUM_ATTEMPTS:
                _end(session, job, _lost(job))
                return None
            job.attempts += 1
            job.worker_id = worker_id
            job.started_at = database_now(session)
            _go(session, job, "starting", "A worker took it." if job.attempts == 1 else f"Attempt {job.attempts}.")
            return Run(job.id, job.attempts, worker_id, job.spec)

    def report(self, run: Run, events: Sequence[Mapping[str, Any]]) -> Orders:
        """Keep what a running job said, and learn whether to go on."""
        if not events:
            with self._database.reading() as session:
                return _orders(session.get(Job, run.job_id), run)
        with self._locked(run.job_id) as (session, job):
            orders = _orders(job, run)
            if orders != "superseded":
                _say(session, job, events)
            return orders

    def finish(self, run: Run, ending: Ending) -> None:
        """The attempt ended, and with it the job."""
        with self._locked(run.job_id) as (session, job):
            if _orders(job, run) != "superseded":
                _end(session, job, ending)

    def give_back(self, run: Run, reason: str, *, counts: bool) -> None:
        """The attempt ended without an answer through no fault of the job: it waits for another, if it may have one."""
        with self._locked(run.job_id) as (session, job):
            if _orders(job, run) == "superseded":
                return
            if job.cancel_requested_at is not None:
                _end(session, job, Ending("cancelled", "Cancelled."))
            elif counts and job.attempts >= MAXIMUM_ATTEMPTS:
                _end(session, job, Ending("failed", f"Tried {job.attempts} times: {reason}", "infrastructure"))
            else:
                job.attempts -= 0 if counts else 1
                _requeue(session, job, reason)

    def abandoned(self, worker_id: str, running: Sequence[str]) -> None:
        """Jobs that are said to run in a living worker, which knows nothing of them, wait for another attempt."""
        query = select(Job).where(Job.worker_id == worker_id, col(Job.state).in_(RUNNING)).with_for_update()
        with self._database.writing() as session:
            for job in session.exec(query):
                if job.id not in running:
                    _take_away(session, job)

    # --- the janitor -------------------------------------------------------------------------------------------

    def tidy(self) -> None:
        """Jobs of dead workers go to others, at most three times; waiting jobs learn whether there is hardware."""
        with self._database.writing() as session:
            workers = live_workers(session, self._rhythm)
            now = database_now(session)
            unfinished = select(Job).where(col(Job.state).in_((*WAITING, *RUNNING))).order_by(col(Job.id))
            for job in session.exec(unfinished.with_for_update(skip_locked=True)):
                _tidy_one(session, job, workers, now)
            forget_old_workers(session)

    # --- the metrics -------------------------------------------------------------------------------------------

    def counts(self) -> Mapping[tuple[str, str], int]:
        """(kind, state) -> jobs."""
        query = select(Job.kind, Job.state, func.count()).group_by(Job.kind, Job.state)
        with self._database.reading() as session:
            return {(kind, state): count for kind, state, count in session.exec(query)}

    def queue_ages(self) -> Mapping[str, float]:
        """device class -> seconds that its oldest waiting job waits."""
        query = select(Job.device_class, func.min(Job.created_at)).where(col(Job.state).in_(WAITING))
        with self._database.reading() as session:
            now = database_now(session)
            found = session.exec(query.group_by(Job.device_class))
            return {name: max(0.0, (now - oldest).total_seconds()) for name, oldest in found}

    def phase_seconds(self) -> Mapping[tuple[str, str], tuple[int, float]]:
        """(kind, phase) -> finished jobs, and the seconds of all of them."""
        query = select(Job.kind, JobPhase.phase, func.count(), func.sum(JobPhase.seconds))
        query = query.join(JobPhase, col(JobPhase.job_id) == col(Job.id)).group_by(Job.kind, JobPhase.phase)
        with self._database.reading() as session:
            return {(kind, phase): (count, float(total)) for kind, phase, count, total in session.exec(query)}

    def ratios(self, limit: int = 100) -> Sequence[tuple[float | None, float | None]]:
        """Predicted over measured step time and peak of the last measured plans."""
        query = select(Job.step_seconds_ratio, Job.peak_bytes_ratio).where(Job.state == "succeeded")
        query = query.where(col(Job.step_seconds_ratio).is_not(None) | col(Job.peak_bytes_ratio).is_not(None))
        with self._database.reading() as session:
            return list(session.exec(query.order_by(col(Job.id).desc()).limit(limit)))

    @contextmanager
    def _locked(self, job_id: str) -> Generator[tuple[Session, Job]]:
        """A job that nobody else changes meanwhile."""
        with self._database.writing() as session:
            job = session.exec(select(Job).where(Job.id == job_id).with_for_update()).one_or_none()
            if job is None:
                raise UnknownJob(job_id)
            yield session, job


def _by_key(session: Session, key: str | None, request_sha256: str) -> Job | None:
    if key is None:
        return None
    known = session.exec(select(Job).where(Job.idempotency_key == key)).one_or_none()
    if known is not None and known.request_sha256 != request_sha256:
        raise KeyReused(key)
    return known


def _is_served(session: Session, rhythm: Rhythm, job: Job) -> bool:
    return any(serves(worker, job.queue, job.protocol) for worker in live_workers(session, rhythm))


def _waits_for(job: Job, *, served: bool) -> str:
    if served:
        return "Waits for its turn."
    where = "the worker that was asked for" if job.queue.startswith("worker/") else f"a worker with {job.device_class}"
    return f"Waits for {where}, with job protocol {job.protocol}: none is there."


def _orders(job: Job | None, run: Run) -> Orders:
    if job is None or job.state not in RUNNING or job.attempts != run.attempt or job.worker_id != run.worker_id:
        return "superseded"
    return "go_on" if job.cancel_requested_at is None else "cancel"


def _tell(session: Session, job: Job, event: str, data: Mapping[str, Any]) -> None:
    """Add an event; the job's row is locked, so its number is the next."""
    session.flush()
    last = session.exec(select(func.max(JobEvent.number)).where(JobEvent.job_id == job.id)).one()
    number = (last or 0) + 1
    session.add(JobEvent(job_id=job.id, number=number, event=event, data=dict(data), at=database_now(session)))


def _go(session: Session, job: Job, state: str, message: str) -> None:
    """The job is in another state, and says so."""
    job.state, job.message = state, message
    if state != "running":
        job.phase = None
    _tell(session, job, "state", {"event": "state", "state": state, "message": message, "attempt": job.attempts})


def _say(session: Session, job: Job, events: Sequence[Mapping[str, Any]]) -> None:
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


def _end(session: Session, job: Job, ending: Ending) -> None:
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
    _go(session, job, ending.state, ending.message)


def _lost(job: Job) -> Ending:
    return Ending("lost", f"Its worker died {job.attempts} times while it ran; it is not tried again.")


def _hand_back(job: Job) -> None:
    """Another hand-over to the engine, under a name that it has not seen."""
    job.dispatches += 1
    job.is_dispatched = False
    job.worker_id = None


def _requeue(session: Session, job: Job, reason: str) -> None:
    _hand_back(job)
    _go(session, job, "queued", f"Waits for another attempt: {reason}")


def _take_away(session: Session, job: Job) -> None:
    """Its worker is no more."""
    if job.cancel_requested_at is not None:
        _end(session, job, Ending("cancelled", "Cancelled; its worker had died."))
    elif job.attempts >= MAXIMUM_ATTEMPTS:
        _end(session, job, _lost(job))
    else:
        _requeue(session, job, "its worker died.")


def _tidy_one(session: Session, job: Job, workers: Sequence[Worker], now: datetime) -> None:
    if job.state in RUNNING:
        if not any(worker.id == job.worker_id for worker in workers):
            _take_away(session, job)
        return
    if now - job.created_at > timedelta(days=WAITING_DAYS):
        _end(session, job, Ending("timed_out", f"It waited for {WAITING_DAYS} days, and no worker could run it."))
        return
    served = any(serves(worker, job.queue, job.protocol) for worker in workers)
    if served == (job.state == "waiting_for_hardware"):
        _go(session, job, "queued" if served else "waiting_for_hardware", _waits_for(job, served=served))
