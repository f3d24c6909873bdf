"""The jobs: every change of state is one transaction here, together with the event that tells of it.

A worker writes with the attempt that it runs (`Run`); what a worker that was given up for dead writes is refused.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import defer
from sqlmodel import Session, col, func, select

from app.db import changes
from app.db.changes import MAXIMUM_ATTEMPTS, RUNNING, WAITING, Ending, Orders, Run
from app.db.database import Database
from app.db.rhythm import Rhythm
from app.db.tables import Job, JobEvent, JobPhase
from app.db.workers import database_now, forget_old_workers, live_workers

LIGHT = tuple(defer(column) for column in (col(Job.spec), col(Job.result)))  # pyright: ignore[reportArgumentType]
"""Without what may be large, a model's configuration and what was found; inside a session both are still to be had."""


class KeyReused(Exception):
    """An idempotency key came again with another request."""


class UnknownJob(Exception):
    """There is no job of that id."""


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
                session.add(job)
                changes.wait(session, job, live_workers(session, self._rhythm))
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
        """Jobs in some states, or all, newest first, as lists show them; `before` is the last id of the page before."""
        query = select(Job).options(*LIGHT).order_by(col(Job.id).desc()).limit(limit + 1)
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
                changes.end(session, job, Ending("cancelled", "Cancelled before it started."))
            elif job.state in RUNNING and job.cancel_requested_at is None:
                job.cancel_requested_at = database_now(session)
                changes.tell(session, job, "log", {"event": "log", "message": "Cancellation was asked for."})
        return self.get(job_id)

    # --- for workers -------------------------------------------------------------------------------------------

    def to_dispatch(self, queues: Sequence[str], protocol: int) -> Sequence[Job]:
        """Queued jobs that were not yet handed to the engine, oldest first."""
        query = select(Job).options(*LIGHT).where(
            Job.state == "queued", Job.is_dispatched == False, Job.protocol == protocol, col(Job.queue).in_(queues)  # noqa: E712
        )  # fmt: skip
        with self._database.reading() as session:
            return list(session.exec(query.order_by(col(Job.id)).limit(20)))

    def dispatched(self, queues: Sequence[str]) -> Sequence[Job]:
        """Queued jobs that the engine should have."""
        query = select(Job).options(*LIGHT).where(Job.state == "queued", Job.is_dispatched == True)  # noqa: E712
        with self._database.reading() as session:
            return list(session.exec(query.where(col(Job.queue).in_(queues)).limit(100)))

    def mark_dispatched(self, job_id: str, dispatch: int) -> None:
        """The engine has it."""
        with self._locked(job_id) as (_, job):
            if job.dispatches == dispatch:
                job.is_dispatched = True

    def redispatch(self, job_id: str, dispatch: int) -> None:
        """The engine lost it: hand it over again, under another name."""
        with self._locked(job_id) as (_, job):
            if job.dispatches == dispatch and job.state == "queued":
                changes.hand_back(job)

    def begin(self, job_id: str, dispatch: int, worker_id: str) -> Run | None:
        """Take a job; None when it isn't ours to take: cancelled, given to another, tried too often."""
        with self._locked(job_id) as (session, job):
            ours = job.state in WAITING or (job.state in RUNNING and job.worker_id == worker_id)
            if job.dispatches != dispatch or not ours:
                return None
            if job.cancel_requested_at is not None:
                changes.end(session, job, Ending("cancelled", "Cancelled."))
                return None
            if job.attempts >= MAXIMUM_ATTEMPTS:
                changes.end(session, job, changes.lost(job))
                return None
            job.attempts += 1
            job.worker_id = worker_id
            job.started_at = database_now(session)
            changes.go(
                session, job, "starting", "A worker took it." if job.attempts == 1 else f"Attempt {job.attempts}."
            )
            return Run(job.id, job.attempts, worker_id, job.spec)

    def report(self, run: Run, events: Sequence[Mapping[str, Any]]) -> Orders:
        """Keep what a running job said, and learn whether to go on."""
        if not events:
            with self._database.reading() as session:
                found = session.exec(select(Job).options(*LIGHT).where(Job.id == run.job_id)).one_or_none()
                return changes.orders(found, run)
        with self._locked(run.job_id) as (session, job):
            order = changes.orders(job, run)
            if order != "superseded":
                changes.say(session, job, events)
            return order

    def finish(self, run: Run, ending: Ending) -> None:
        """The attempt ended, and with it the job."""
        with self._locked(run.job_id) as (session, job):
            if changes.orders(job, run) != "superseded":
                changes.end(session, job, ending)

    def give_back(self, run: Run, reason: str, *, counts: bool) -> None:
        """The attempt ended without an answer through no fault of the job: it waits for another, if it may have one."""
        with self._locked(run.job_id) as (session, job):
            if changes.orders(job, run) == "superseded":
                return
            if job.cancel_requested_at is not None:
                changes.end(session, job, Ending("cancelled", "Cancelled."))
            elif counts and job.attempts >= MAXIMUM_ATTEMPTS:
                changes.end(session, job, Ending("failed", f"Tried {job.attempts} times: {reason}", "infrastructure"))
            else:
                job.attempts -= 0 if counts else 1
                changes.requeue(session, job, reason)

    def abandoned(self, worker_id: str, running: Sequence[str]) -> None:
        """Jobs that are said to run in a living worker, which knows nothing of them, wait for another attempt."""
        query = select(Job).options(*LIGHT).where(Job.worker_id == worker_id, col(Job.state).in_(RUNNING))
        with self._database.writing() as session:
            for job in session.exec(query.with_for_update()):
                if job.id not in running:
                    changes.take_away(session, job)

    # --- the janitor -------------------------------------------------------------------------------------------

    def tidy(self) -> None:
        """Jobs of dead workers go to others, at most three times; waiting jobs learn whether there is hardware."""
        with self._database.writing() as session:
            workers = live_workers(session, self._rhythm)
            now = database_now(session)
            unfinished = select(Job).options(*LIGHT).where(col(Job.state).in_((*WAITING, *RUNNING)))
            for job in session.exec(unfinished.order_by(col(Job.id)).with_for_update(skip_locked=True)):
                changes.tidy_one(session, job, workers, now)
            forget_old_workers(session)

    def waiting(self) -> int:
        """How many jobs wait."""
        with self._database.reading() as session:
            return session.exec(select(func.count()).where(col(Job.state).in_(WAITING))).one()

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
            query = select(Job).options(*LIGHT).where(Job.id == job_id)
            job = session.exec(query.with_for_update()).one_or_none()
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
