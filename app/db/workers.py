"""The workers: who is there, which hardware they own, and when they were last heard of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import func
from sqlalchemy.orm import load_only
from sqlmodel import Session, col, delete, select

from app.db.database import Database
from app.db.rhythm import Rhythm
from app.db.tables import Job, Worker, now

PROCESSOR = "cpu"
MAXIMUM_RANKS = 2**16
"""Of one job on a processor, which its ranks share; JobSpec says how many it may have."""
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


def queue_of_devices(device_class: str, count: int) -> str:
    """The queue of jobs on so many devices of a class. The processor is one, however many ranks share it."""
    return device_class if count == 1 or device_class == PROCESSOR else f"{device_class} x{count}"


def queues_of(worker_id: str, device_counts: Mapping[str, int]) -> list[str]:
    """The queues that a worker with these devices serves: of each number of them that it has, and its own."""
    of_devices = [
        queue_of_devices(name, number) for name, count in device_counts.items() for number in range(1, count + 1)
    ]
    return [*of_devices, queue_of_worker(worker_id)]


def devices_of(worker: Worker, device_class: str) -> int:
    """How many devices of a class one job can have there."""
    if device_class not in worker.device_classes:
        return 0
    return MAXIMUM_RANKS if device_class == PROCESSOR else worker.device_counts.get(device_class, 1)


def serves(worker: Worker, job: Job) -> bool:
    """Whether a worker takes a job: by its protocol and queue, and with as many devices as the job needs."""
    own = {queue_of_devices(job.device_class, job.device_count), queue_of_worker(worker.id)}
    has_devices = devices_of(worker, job.device_class) >= job.device_count
    return worker.protocol == job.protocol and job.queue in own and has_devices


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
            light = load_only(col(Job.id), col(Job.title), col(Job.worker_id))  # pyright: ignore[reportArgumentType]
            running = session.exec(select(Job).options(light).where(col(Job.state).in_(("starting", "running"))))
            jobs = {job.worker_id: job for job in running}
        listed = [(row, row.id in live, jobs.get(row.id)) for row in rows]
        return sorted(listed, key=lambda entry: not entry[1])


def forget_old_workers(session: Session) -> None:
    """Workers that nobody heard of for a day leave the list."""
    before = database_now(session) - timedelta(hours=KEPT_HOURS)
    session.exec(delete(Worker).where(col(Worker.heartbeat_at) < before))
