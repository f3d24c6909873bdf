"""What the engine's two steps do in a worker: take a job and run its process; write down how that ended."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from app.db.changes import Ending, Run
from app.db.errors import DatabaseUnavailable
from app.db.jobs import JobStore, UnknownJob
from app.db.rhythm import Rhythm
from app.detect import detect
from app.jobs.confine import reap_orphans
from app.jobs.devices import CPU, Slot, visible
from app.jobs.judge import GiveBack, judge
from app.jobs.launch import LOG_NAME, Events, Launch, Order, Outcome, run, storable
from app.jobs.locks import Held, device_locks
from app.jobs.spec import JobResult, JobSpec

T = TypeVar("T")

RETRY_SECONDS: Final = 1.0
FINAL_TRIES: Final = 5
"""How often a stopping worker tries to write down an ending before it leaves that to others."""
CAP_SHARE: Final = 0.95
"""Of the memory that is available when a job starts, where the job names no cap: the machine stays usable."""
SHOWN_LOG_BYTES: Final = 4 * 2**10


class Attempts:
    """The attempts of one worker. Both steps may be called again after a crash; the store refuses what is outdated."""

    def __init__(
        self,
        jobs: JobStore,
        directory: Path,
        worker_id: str,
        slots: Sequence[Slot],
        module: str,
        rhythm: Rhythm,
        stopping: threading.Event,
        is_fenced: Callable[[], bool],
    ) -> None:
        self._jobs = jobs
        self._directory = directory
        self._worker_id = worker_id
        self._slots = slots
        self._module = module
        self._rhythm = rhythm
        self.stopping = stopping
        self.is_fenced = is_fenced
        self._running: set[str] = set()
        self._changed = threading.Condition()

    def running(self) -> list[str]:
        """The jobs in hand."""
        with self._changed:
            return list(self._running)

    def wait_until_idle(self, seconds: float) -> None:
        """Wait until no job is in hand."""
        with self._changed:
            self._changed.wait_for(lambda: not self._running, seconds)

    def attempt(self, job_id: str, dispatch: int) -> dict[str, Any] | None:
        """Take the job and run it to its end; None when it wasn't there to take."""
        with self._changed:
            self._running.add(job_id)
        attempted = None
        try:
            attempted = self._attempt(job_id, dispatch)
        finally:
            if attempted is None:
                self._let_go(job_id)
        return attempted

    def settle(self, attempted: dict[str, Any]) -> None:
        """Write down how an attempt ended, as soon as the database takes it."""
        taken = Run(**attempted["run"])
        try:
            verdict = judge(Outcome.model_validate(attempted["outcome"]), attempted["kind"])
            self._write_down(taken, verdict)
            if isinstance(verdict, Ending) and verdict.state in ("succeeded", "cancelled"):
                shutil.rmtree(self._directory / taken.job_id, ignore_errors=True)
        finally:
            self._let_go(taken.job_id)

    def _attempt(self, job_id: str, dispatch: int) -> dict[str, Any] | None:
        try:
            job = self._until_available(lambda: self._jobs.get(job_id))
        except UnknownJob:
            return None
        if job is None:
            return None
        slots = [slot for slot in self._slots if slot.device_class == job.device_class]
        count = 0 if job.device_class == CPU else job.device_count
        if len(slots) < count:  # the worker was restarted with less hardware; the janitor lets the job wait for more
            return None
        with device_locks(slots, count, self.stopping.wait) as held:
            if held is None:
                return None
            taken = self._until_available(lambda: self._jobs.begin(job_id, dispatch, self._worker_id))
            if taken is None:
                return None
            outcome = self._run(taken, held)
        return {"run": asdict(taken), "kind": job.kind, "outcome": outcome.model_dump(mode="json")}

    def _run(self, taken: Run, held: Held) -> Outcome:
        try:
            spec = JobSpec.model_validate(taken.spec)
        except ValidationError as error:
            text = f"the specification is none: {' '.join(str(error).split())[:300]}"
            return Outcome(kind="result", result=JobResult(outcome="failed", failure_kind="invalid_spec", message=text))
        try:
            return self._launched(taken, spec, held)
        except Exception as error:  # whatever it is, the job must not be left in between
            detail = f"its worker could not run it: {type(error).__name__}: {error}"[:300]
            return Outcome(kind="vanished", detail=detail, is_infrastructure=True)

    def _launched(self, taken: Run, spec: JobSpec, held: Held) -> Outcome:
        directory = self._directory / taken.job_id / str(taken.attempt)
        cap_bytes = spec.memory_cap_bytes or available_cap_bytes()
        launch = Launch(
            spec=spec.model_copy(update={"memory_cap_bytes": cap_bytes}),
            directory=directory,
            mark=f"{taken.job_id}:{taken.attempt}",
            worker_mark=self._worker_id,
            locks=held.descriptors,
            devices=visible(held.slots),
            memory_cap_bytes=cap_bytes,
            module=self._module,
            look_seconds=self._rhythm.look_seconds,
        )
        guard = _Guard(self, self._jobs, taken)
        outcome = run(launch, guard)
        if outcome.kind == "vanished" and (log := _end_of(directory / LOG_NAME)):
            guard([{"event": "log", "message": log}])
        return outcome

    def _write_down(self, taken: Run, verdict: Ending | GiveBack | None) -> None:
        match verdict:
            case Ending():
                self._insist(lambda: self._jobs.finish(taken, verdict))
            case GiveBack(reason, counts):
                self._insist(lambda: self._jobs.give_back(taken, reason, counts=counts))
            case None:
                return

    def _insist(self, act: Callable[[], None]) -> None:
        """Do it once the database answers; a stopping worker insists only for a while."""
        tries_left = FINAL_TRIES
        while tries_left > 0:
            try:
                act()
                return
            except DatabaseUnavailable:
                tries_left -= 1 if self.stopping.wait(RETRY_SECONDS) else 0
            except UnknownJob:
                return

    def _until_available(self, act: Callable[[], T]) -> T | None:
        """Do it once the database answers; None when the worker is told to stop before."""
        while not self.stopping.is_set():
            try:
                return act()
            except DatabaseUnavailable:
                self.stopping.wait(RETRY_SECONDS)
        return None

    def _let_go(self, job_id: str) -> None:
        with self._changed:
            self._running.discard(job_id)
            if not self._running:
                reap_orphans()
            self._changed.notify_all()


class _Guard:
    """Passes on what a running job says, and says whether it may go on. What the database can't take now waits."""

    def __init__(self, attempts: Attempts, jobs: JobStore, taken: Run) -> None:
        self._attempts = attempts
        self._jobs = jobs
        self._taken = taken
        self._waiting: list[Any] = []

    def __call__(self, events: Events) -> Order:
        self._waiting.extend(events)
        if self._attempts.stopping.is_set():
            return "interrupt"
        try:
            orders = self._jobs.report(self._taken, self._waiting)
        except DatabaseUnavailable:
            return "unreachable" if self._attempts.is_fenced() else "go_on"
        except UnknownJob:
            return "superseded"
        self._waiting.clear()
        return orders if orders != "go_on" or not self._attempts.is_fenced() else "unreachable"


def available_cap_bytes() -> int:
    """What a job may take at most where it doesn't say."""
    memory = detect().memory
    return int(CAP_SHARE * memory.available_bytes) if memory is not None else 2**62


def _end_of(path: Path) -> str:
    """The last lines that a process wrote beside the protocol."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - SHOWN_LOG_BYTES))
            return storable(file.read().decode(errors="replace").strip())
    except OSError:
        return ""
