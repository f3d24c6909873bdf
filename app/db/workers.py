"""The workers: who is there, which hardware they own, and when they were last heard of."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import func
from sqlmodel import Session, col, delete, select

from app.db.database import Database
from app.db.rhythm import Rhythm
from app.db.tables import Job, Worker, now

KEPT_HOURS = 24
"""How long a worker that is gone stays in the list."""


def database_now(session: Session) -> datetime:
    """One clock for the whole fleet: PostgreSQL's. A SQLite file is on one machine, and so is its clock."""
    if session.get_bind().dialect.name == "postgresql":
        return session.exec(select(func.clock_timestamp())).one()
    return now()


def queue_of_worker(worker_id: str) -> str:
    """The queue that one worker alone serves."""
    return f"worker/{worker_id}"


def serves(worker: Worker, queue: str, protocol: int) -> bool:
    """Whether a worker takes jobs of a queue."""
    queues = {*worker.device_classes, queue_of_worker(worker.id)}
    return worker.protocol == protocol and queue in queues


def live_workers(session: Session, rhythm: Rhythm) -> list[Worker]:
    """Those heard of lately, the longest running first."""
    since = database_now(session) - timedelta(seconds=rhythm.dead_seconds)
    heard = select(Worker).where(col(Worker.stopped_at).is_(None), col(Worker.heartbeat_at) > since)
    return list(session.exec(heard.order_by(col(Worker.started_at))))


class WorkerStore:
    """Rows of the `worker` table."""

    def __init__(self, database: Database, rhythm: Rhythm) -> None:
        self._database = database
        self._rhythm = rhythm

    def register(self, worker: Worker) -> None:
        """A worker begins, again under the id that it had before."""
        with self._database.writing() as session:
            worker.started_at = worker.heartbeat_at = database_now(session)
            worker.stopped_at = None
            session.merge(worker)

    def beat(self, worker_id: str) -> None:
        """It is alive."""
        with self._database.writing() as session:
            worker = session.get(Worker, worker_id)
            if worker is not None:
                worker.heartbeat_at = database_now(session)

    def stop(self, worker_id: str) -> None:
        """It ended in order."""
        with self._database.writing() as session:
            worker = session.get(Worker, worker_id)
            if worker is not None:
                worker.stopped_at = database_now(session)

    def live(self) -> Sequence[Worker]:
        """Those heard of lately."""
        with self._database.reading() as session:
            return live_workers(session, self._rhythm)

    def known(self) -> Sequence[tuple[Worker, bool, Job | None]]:
        """Every worker of the last day with whether it is live and the job that it runs, live ones first."""
        with self._database.reading() as session:
            live = {worker.id for worker in live_workers(session, self._rhythm)}
            rows = list(session.exec(select(Worker).order_by(col(Worker.heartbeat_at).desc())))
            running = session.exec(select(Job).where(col(Job.state).in_(("starting", "running"))))
            jobs = {job.worker_id: job for job in running}
        listed = [(row, row.id in live, jobs.get(row.id)) for row in rows]
        return sorted(listed, key=lambda entry: not entry[1])


def forget_old_workers(session: Session) -> None:
    """Workers that nobody heard of for a day leave the list."""
    before = database_now(session) - timedelta(hours=KEPT_HOURS)
    session.exec(delete(Worker).where(col(Worker.heartbeat_at) < before))
