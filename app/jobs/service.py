"""Jobs for whoever asks: page, REST and command line submit, look and cancel here. No worker lives in this process.

SQLAlchemy is imported with the first question; from then on this process keeps house too (`JobStore.tidy`), so that a
page tells the truth also when the last worker has died.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pydantic import TypeAdapter

from app.db.errors import DatabaseUnavailable
from app.db.opened import OpenedDatabase
from app.db.rhythm import RHYTHM, Rhythm
from app.jobs.depth import deepest, depth_of
from app.jobs.devices import device_class, has_workers
from app.jobs.rows import row_of
from app.jobs.spec import MAXIMUM_DEVICES, JobKind, JobSpec
from app.plans import Plan, Plans
from app.problems import Problem
from planner.contract import Answer, EstimateRequest
from planner.hardware import Machine

if TYPE_CHECKING:
    from app.db.jobs import JobStore, Page
    from app.db.tables import Job, JobEvent, Worker
    from app.db.workers import WorkerStore

T = TypeVar("T")

MOST_WAITING: Final = 200
"""More jobs than this are not taken on: somebody should look."""
_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MACHINES: Final = TypeAdapter(Machine)
_MEMORY_CODES: Final = frozenset({"device_memory", "host_memory", "single_allocation"})


def is_id(text: str) -> bool:
    """Whether a job could have this id: a UUID as it is written (RFC 9562, 4)."""
    return _ID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Order:
    """A job as somebody asks for it. `depth` is a number of layers, or -1 for as many as fit."""

    kind: JobKind
    request: EstimateRequest | None = None
    steps: int = 10
    depth: int | None = None
    worker_id: str | None = None
    deadline_seconds: float = 600.0

    def sha256(self) -> str:
        """What two equal orders have in common."""
        request = None if self.request is None else self.request.model_dump(mode="json")
        parts = [self.kind, request, self.steps, self.depth, self.worker_id, self.deadline_seconds]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


AS_DEEP_AS_FITS: Final = -1


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a job runs: its device, and the queue that leads there."""

    device_class: str
    device_id: str
    device_count: int
    queue: str


class JobService:
    """Submit, look, cancel."""

    def __init__(self, plans: Plans, database: OpenedDatabase, rhythm: Rhythm = RHYTHM) -> None:
        self._plans = plans
        self._database = database
        self._rhythm = rhythm
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._janitor: threading.Thread | None = None

    def submit(self, order: Order, key: str | None = None) -> tuple[Job, bool]:
        """Store a job, or find the one that has the same key; whether it is new.

        Raises:
            Problem: it can't be run as asked, and why.
        """
        known = None if key is None else self._known_by(key, order)
        if known is not None:  # also when the plan, the machine or the queue would be judged otherwise by now
            return known, False
        spec, place = self._measuring(order) if order.kind == "measure" else self._calibrating(order)
        self._refuse_when_crowded()
        job = row_of(spec, place.queue, order.sha256(), key)
        return self._unless_reused(key, lambda: self.store().submit(job))

    def _known_by(self, key: str, order: Order) -> Job | None:
        """The job that was submitted under the key."""
        return self._unless_reused(key, lambda: self.store().known_by(key, order.sha256()))

    def _unless_reused(self, key: str | None, act: Callable[[], T]) -> T:
        """What `act` returns.

        Raises:
            Problem: the key belongs to another request.
        """
        from app.db.jobs import KeyReused

        try:
            return act()
        except KeyReused as error:
            text = "this Idempotency-Key was sent before, with another request"
            raise Problem(
                "idempotency_key_reused", text, field="Idempotency-Key", value=key, accepted="a key of its own"
            ) from error

    def get(self, job_id: str) -> Job:
        """One job.

        Raises:
            Problem: there is none of that id.
        """
        return self._known(job_id, lambda store: store.get(job_id))

    def cancel(self, job_id: str) -> Job:
        """End a job; one that ended stays as it is.

        Raises:
            Problem: there is none of that id.
        """
        return self._known(job_id, lambda store: store.cancel(job_id))

    def find(self, *, states: Sequence[str] = (), limit: int = 50, before: str | None = None) -> Page:
        """Jobs, newest first, without their results.

        Raises:
            Problem: `before` is no id.
        """
        if before is not None and not is_id(before):
            raise Problem(
                "invalid_request", "the list has no such place", field="cursor", value=before,
                accepted="`next` of a page",
            )  # fmt: skip
        return self.store().find(states=states, limit=limit, before=before)

    def events(self, job_id: str, after: int = 0, limit: int = 1000) -> Sequence[JobEvent]:
        """What a job said after an event."""
        return self.store().events(job_id, after, limit)

    def workers(self) -> Sequence[tuple[Worker, bool, Job | None]]:
        """Every worker of the last day, whether it is live, and the job that it runs."""
        return self.worker_store().known()

    def store(self) -> JobStore:
        """The jobs' table."""
        from app.db.jobs import JobStore

        database = self._database()
        self._keep_house()
        return JobStore(database, self._rhythm)

    def worker_store(self) -> WorkerStore:
        """The workers' table."""
        from app.db.workers import WorkerStore

        database = self._database()
        self._keep_house()
        return WorkerStore(database, self._rhythm)

    def ping(self) -> None:
        """See whether the database answers; one that nobody used yet is used only where it is somebody else's server.

        Raises:
            DatabaseUnavailable: it does not.
        """
        if self._database.is_open or self._database.is_remote:
            self.store().find(limit=1)

    def close(self) -> None:
        """Stop keeping house."""
        self._closing.set()
        if self._janitor is not None:
            self._janitor.join()

    # --- from an order to a specification ----------------------------------------------------------------------

    def _measuring(self, order: Order) -> tuple[JobSpec, _Place]:
        if order.request is None:
            raise Problem("invalid_request", "a measuring job needs a plan", field="request", accepted="a plan")
        plan = self._plans.plan(order.request)
        answer = self._plans.evaluate(plan, advice=False)
        _refuse_not_modelled(answer)
        machine = self._plans.machine(plan.request)
        _refuse_what_no_worker_has(machine)
        place = self._place(machine, order.worker_id, machine.logical_devices)
        spec = JobSpec(
            kind="measure",
            request=plan.request,
            config=dict(plan.config),
            machine=_MACHINES.dump_python(machine, mode="json"),
            steps=order.steps,
            depth=self._depth(order, plan, answer),
            device_class=place.device_class,
            device_id=place.device_id,
            device_count=place.device_count,
            deadline_seconds=order.deadline_seconds,
        )
        return spec, place

    def _calibrating(self, order: Order) -> tuple[JobSpec, _Place]:
        if order.worker_id is not None:
            place = self._own_device(order.worker_id)
        else:
            machine = self._plans.this_machine()
            if machine is None:
                text = "this machine could not be looked at: name a worker"
                raise Problem("invalid_request", text, field="worker", accepted="the id of a worker")
            place = self._place(machine, None, 1)
        spec = JobSpec(
            kind="calibrate",
            device_class=place.device_class,
            device_id=place.device_id,
            deadline_seconds=order.deadline_seconds,
        )
        return spec, place

    def _place(self, machine: Machine, worker_id: str | None, device_count: int) -> _Place:
        from app.db.workers import devices_of, queue_of_devices, queue_of_worker

        name = device_class(machine.device)
        if worker_id is None:
            own = self._own_worker(name, device_count) if machine.is_this_machine else None
            queue = queue_of_devices(name, device_count) if own is None else queue_of_worker(own.id)
            return _Place(name, machine.device.id, device_count, queue)
        worker = self._worker(worker_id)
        has = devices_of(worker, name)
        if has < device_count:
            raise Problem(
                "invalid_request",
                f"worker {worker.name} has {'no' if not has else f'{has} of the {device_count}'} {name}",
                field="worker",
                value=worker_id,
                accepted=f"a worker with {name}" if device_count == 1 else f"a worker with {device_count} x {name}",
            )
        return _Place(name, machine.device.id, device_count, queue_of_worker(worker_id))

    def _own_worker(self, name: str, count: int) -> Worker | None:
        """A live worker of this very machine with these devices: another's are not those that were asked for."""
        from app.db.workers import devices_of

        here = platform.node()
        owned = (worker for worker, live, _ in self.workers() if live and worker.machine.get("host") == here)
        return next((worker for worker in owned if devices_of(worker, name) >= count), None)

    def _own_device(self, worker_id: str) -> _Place:
        """The best device of a worker."""
        from app.db.workers import queue_of_worker

        worker = self._worker(worker_id)
        devices = worker.machine.get("devices") or [{"id": "unknown"}]
        return _Place(worker.device_classes[0], str(devices[0]["id"]), 1, queue_of_worker(worker_id))

    def _worker(self, worker_id: str) -> Worker:
        found = next((worker for worker, _, _ in self.workers() if worker.id == worker_id), None)
        if found is None:
            raise Problem(
                "invalid_request", "no worker has that id", field="worker", value=worker_id, accepted="see /workers"
            )
        return found

    def _depth(self, order: Order, plan: Plan, answer: Answer) -> int | None:
        """The layers to build: all, unless fewer were asked for.

        Raises:
            Problem: all were asked for and don't fit; it says how many do.
        """
        whole = depth_of(plan.config)
        if order.depth is not None and order.depth > 0:
            return order.depth if whole is None or order.depth < whole else None
        if _fits(answer):
            return None

        def fits(config: Mapping[str, Any]) -> bool:
            return _fits(self._plans.evaluate(Plan(plan.request, config), advice=False))

        deep = deepest(plan.config, fits)
        if order.depth == AS_DEEP_AS_FITS and deep is not None:
            return deep
        fewer = "nothing of it fits" if deep is None else f'"depth": {deep}, or fewer of its {whole} layers'
        raise Problem("plan_does_not_fit", answer.summary, field="depth", value=order.depth, accepted=fewer)

    def _refuse_when_crowded(self) -> None:
        waiting = self.store().waiting()
        if waiting >= MOST_WAITING:
            raise Problem(
                "too_many_jobs", f"{waiting} jobs wait already", accepted=f"fewer than {MOST_WAITING} waiting jobs"
            )

    # --- keeping house -----------------------------------------------------------------------------------------

    def _keep_house(self) -> None:
        with self._lock:
            if self._janitor is None and not self._closing.is_set():
                self._janitor = threading.Thread(target=self._tidy_now_and_then, name="janitor", daemon=True)
                self._janitor.start()

    def _tidy_now_and_then(self) -> None:
        from app.db.jobs import JobStore

        while not self._closing.is_set():
            with suppress(DatabaseUnavailable):
                JobStore(self._database(), self._rhythm).tidy()
            self._closing.wait(self._rhythm.tidy_seconds)

    def _known(self, job_id: str, find: Callable[[JobStore], Job]) -> Job:
        """What `find` returns; what is no id never reaches the database."""
        from app.db.jobs import UnknownJob

        try:
            if not is_id(job_id):
                raise UnknownJob(job_id)
            return find(self.store())
        except UnknownJob as error:
            raise Problem("unknown_job", "there is no such job", field="id", value=job_id) from error


def _refuse_not_modelled(answer: Answer) -> None:
    """Refuse a plan without a prediction, as the runner would: there is nothing to compare a measurement with.

    Raises:
        Problem: it is one.
    """
    if answer.verdict == "not_modelled":
        field = f"request.{answer.reasons[0].field or 'run'}"
        raise Problem("invalid_request", answer.summary, field=field, accepted="a plan that is modelled")


def _refuse_what_no_worker_has(machine: Machine) -> None:
    """Refuse a machine that no worker can ever be.

    Raises:
        Problem: its device is no kind that workers find, or there are too many of them for one worker.
    """
    if not has_workers(machine.device):
        raise Problem(
            "invalid_request",
            f"no worker can have a {machine.device.display_name}: workers know the devices of the catalogue",
            field="request.machine.device",
            value=machine.device.id,
            accepted="a processor, or a device of the catalogue by NVIDIA, AMD, Intel or Apple",
        )
    if machine.logical_devices > MAXIMUM_DEVICES:
        raise Problem(
            "invalid_request",
            f"a job runs on at most {MAXIMUM_DEVICES} devices",
            field="request.machine.device_count",
            value=machine.device_count,
            accepted=f"at most {MAXIMUM_DEVICES} devices",
        )


def _fits(answer: Answer) -> bool:
    """Whether memory is enough; disk is not asked for, because a measured model is never stored."""
    return answer.verdict != "does_not_fit" or not _MEMORY_CODES & {reason.code for reason in answer.reasons}
