"""A worker: one process that owns a machine's devices, takes jobs from the engine, runs each in a process of its own.

Threads: the main one hands jobs over to the engine and tidies; one beats; the engine's own run the jobs.
"""

from __future__ import annotations

import os
import platform
import shutil
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, TypeVar

from app.db.database import Database, engine_url
from app.db.errors import DatabaseUnavailable
from app.db.jobs import JobStore, UnknownJob
from app.db.rhythm import RHYTHM, Rhythm
from app.db.tables import Worker
from app.db.workers import WorkerStore, queues_of
from app.detect import detect, to_machines
from app.jobs.attempts import Attempts
from app.jobs.confine import adopt_orphans
from app.jobs.devices import counts_of, device_class, given, slots_of
from app.jobs.engine import Engine
from app.jobs.identity import Identity
from app.jobs.launch import RUNNER
from app.jobs.spec import PROTOCOL
from app.jobs.tree import WORKER_MARK, end_marked
from app.machines import shown
from planner.hardware import Machine

T = TypeVar("T")

STOP_SECONDS: Final = 8.0
"""How long jobs may take to end when the worker is told to stop."""
RETRY_SECONDS: Final = 1.0
BUSY_FACTOR: Final = 4
KEPT_SECONDS: Final = 7 * 86400
LIBRARIES: Final = ("torch", "transformers", "peft", "accelerate")


class WorkerProcess:
    """One worker. `run` returns when `stop` was called, from a signal handler or a thread."""

    def __init__(
        self,
        database_url: str,
        data_dir: Path,
        name: str,
        *,
        rhythm: Rhythm = RHYTHM,
        module: str = RUNNER,
        protocol: int = PROTOCOL,
    ) -> None:
        self._identity = Identity(data_dir, name)
        self._jobs_dir = data_dir / "jobs"
        self._database = Database(database_url)
        self._jobs = JobStore(self._database, rhythm)
        self._workers = WorkerStore(self._database, rhythm)
        self._rhythm = rhythm
        self._protocol = protocol
        self._stopping = threading.Event()
        found = given(detect(), os.environ)
        self._machines = to_machines(found)
        slots = slots_of(found)
        self._counts = counts_of(slots, [device_class(machine.device) for machine in self._machines])
        self._attempts = Attempts(
            self._jobs, self._jobs_dir, self.id, slots, module, rhythm, self._stopping, self._is_fenced
        )
        self._beaten_at = time.monotonic()
        self.queues = queues_of(self.id, self._counts)

    @property
    def id(self) -> str:
        """What the database calls this worker."""
        return self._identity.id

    def stop(self) -> None:
        """End in order: running jobs are put back, and do not count as tried."""
        self._stopping.set()

    def run(self, *, on_ready: Callable[[], None] = lambda: None) -> None:
        """Work until told to stop."""
        adopt_orphans()
        end_marked(WORKER_MARK, self.id)  # what a killed predecessor left behind
        self._forget_old_folders()
        started = self._until_available(self._register)
        if started is None:
            return
        threading.Thread(target=self._keep_beating, name="heartbeat", daemon=True).start()
        engine = Engine(
            engine_url(self._database.url), self.id, self.queues, self._attempts.attempt, self._attempts.settle
        )
        engine.start()
        on_ready()
        try:
            self._go_round(engine)
        finally:
            self._wind_down(engine)

    # --- the main thread ---------------------------------------------------------------------------------------

    def _register(self) -> bool:
        self._database.migrate()
        self._workers.register(
            Worker(
                id=self.id,
                name=self._identity.name,
                device_classes=list(self._counts),
                device_counts=self._counts,
                machine=_described(self._machines),
                stack=_libraries(),
                protocol=self._protocol,
                started_at=None,  # pyright: ignore[reportArgumentType]  # by the database's clock
                heartbeat_at=None,  # pyright: ignore[reportArgumentType]
            )
        )
        self._beaten_at = time.monotonic()
        return True

    def _go_round(self, engine: Engine) -> None:
        """Hand jobs over as they come; now and then look whether everything is where it belongs."""
        tidied_at, forgotten_at, begun_at = -1e9, -1e9, time.monotonic()
        while not self._stopping.wait(self._pause_seconds()):
            try:
                self._hand_over(engine)
                if time.monotonic() - tidied_at >= self._rhythm.tidy_seconds:
                    tidied_at = time.monotonic()
                    self._tidy(engine, recovered=tidied_at - begun_at > self._rhythm.recovery_seconds)
                if time.monotonic() - forgotten_at >= self._rhythm.forget_seconds and not self._attempts.running():
                    forgotten_at = time.monotonic()
                    engine.forget(self._rhythm.engine_kept_seconds)
            except (DatabaseUnavailable, UnknownJob):
                self._stopping.wait(RETRY_SECONDS)

    def _pause_seconds(self) -> float:
        """Beside a running job new ones can wait: looking for them takes processor time from what is measured."""
        return self._rhythm.dispatch_seconds * (BUSY_FACTOR if self._attempts.running() else 1)

    def _hand_over(self, engine: Engine) -> None:
        """Our table is the outbox: a job is in the engine first, then marked; twice is once, by its name there."""
        for job in self._jobs.to_dispatch(self.queues, self._protocol):
            engine.hand_over(job.queue, job.id, job.dispatches)
            self._jobs.mark_dispatched(job.id, job.dispatches)

    def _tidy(self, engine: Engine, *, recovered: bool) -> None:
        self._jobs.tidy()
        live = [worker.id for worker in self._workers.live()]
        for job in self._jobs.dispatched(self.queues):
            if not engine.has(job.id, job.dispatches, live):
                self._jobs.redispatch(job.id, job.dispatches)
        if recovered:
            self._jobs.abandoned(self.id, self._attempts.running())

    def _wind_down(self, engine: Engine) -> None:
        self._stopping.set()
        self._attempts.wait_until_idle(STOP_SECONDS)
        engine.stop()
        with suppress(DatabaseUnavailable):  # its heartbeat will be missed instead
            self._workers.stop(self.id)
        self._database.close()
        self._identity.close()

    # --- the heartbeat -----------------------------------------------------------------------------------------

    def _keep_beating(self) -> None:
        while not self._stopping.wait(self._rhythm.beat_seconds):
            try:
                self._workers.beat(self.id)
                self._beaten_at = time.monotonic()
            except DatabaseUnavailable:
                continue

    def _is_fenced(self) -> bool:
        """Whether others may soon take our jobs over, because they could not hear of us."""
        return time.monotonic() - self._beaten_at > self._rhythm.fence_seconds

    def _until_available(self, act: Callable[[], T]) -> T | None:
        """Do it once the database answers; None when we are told to stop before."""
        while not self._stopping.is_set():
            try:
                return act()
            except DatabaseUnavailable:
                self._stopping.wait(RETRY_SECONDS)
        return None

    def _forget_old_folders(self) -> None:
        """What failed is kept for a week, for whoever looks into it."""
        if not self._jobs_dir.is_dir():
            return
        for folder in self._jobs_dir.iterdir():
            if time.time_ns() / 1e9 - folder.stat().st_mtime > KEPT_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)


def _described(machines: Sequence[Machine]) -> dict[str, Any]:
    """What pages say of a machine."""
    words = [shown(machine) for machine in machines]
    return {
        "host": platform.node(),
        "system": f"{platform.system()} {platform.release()}",
        "devices": [
            {"id": machine.device.id, "name": word.name, "summary": word.summary, "count": machine.device_count}
            for machine, word in zip(machines, words, strict=True)
            if word is not None
        ],
    }


def _libraries() -> dict[str, str | None]:
    """Versions, without importing anything."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def work(worker: WorkerProcess, *, on_ready: Callable[[], None] = lambda: None) -> None:
    """Run a worker in this process until SIGTERM or SIGINT; a second signal, or a job that hangs, ends it hard."""

    def stop(_signal: int, _frame: object) -> None:
        threading.Thread(target=_end_hard, daemon=True).start()
        worker.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    worker.run(on_ready=on_ready)


def _end_hard() -> None:
    time.sleep(STOP_SECONDS + 4)
    os._exit(1)
