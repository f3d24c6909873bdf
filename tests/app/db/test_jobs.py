"""The jobs' states, on both kinds of database, without any process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from app.db.changes import MAXIMUM_ATTEMPTS, WAITING_DAYS, Ending, Run
from app.db.database import Database
from app.db.jobs import JobStore, KeyReused, UnknownJob, new_id
from app.db.rhythm import Rhythm
from app.db.tables import Calibration, Job, Worker, now
from app.db.workers import WorkerStore, queue_of_devices, queues_of
from app.jobs.spec import FINAL_STATES

QUICK = Rhythm(dead_seconds=0.3)


class Tables:
    def __init__(self, database: Database) -> None:
        self.database = database
        self.jobs = JobStore(database, QUICK)
        self.workers = WorkerStore(database, QUICK)

    def worker(self, name: str = "one", classes: tuple[str, ...] = ("cpu",), protocol: int = 1, **counts: int) -> str:
        row: dict[str, Any] = {"id": name, "name": name, "device_classes": list(classes), "machine": {}, "stack": {}}
        row["device_counts"] = {each: counts.get("each", 1) for each in classes}
        self.workers.register(Worker(**row, protocol=protocol))
        return name

    def submit(self, key: str | None = None, sha256: str = "a", **values: Any) -> Job:
        known: dict[str, Any] = {"device_class": "cpu", "queue": "cpu", "protocol": 1, "kind": "measure"} | values
        spec = {"device_id": "this-cpu", "steps": 1}
        job = Job(id=new_id(), state="queued", spec=spec, idempotency_key=key, request_sha256=sha256, **known)
        return self.jobs.submit(job)[0]

    def begin(self, job: Job, worker: str = "one") -> Run:
        run = self.jobs.begin(job.id, self.jobs.get(job.id).dispatches, worker)
        assert run is not None
        return run

    def state(self, job: Job) -> str:
        return self.jobs.get(job.id).state

    def states(self, job: Job) -> list[str]:
        return [event.data["state"] for event in self.jobs.events(job.id) if event.event == "state"]


@pytest.fixture
def tables(database_url: str) -> Iterator[Tables]:
    database = Database(database_url)
    database.migrate()
    yield Tables(database)
    database.close()


def phase(name: str) -> dict[str, Any]:
    return {"event": "phase", "phase": name, "message": ""}


def test_ids_sort_by_time_and_are_uuids_of_version_7() -> None:
    first = new_id()
    time.sleep(0.002)
    assert first < new_id()
    assert UUID(first).version == 7


def test_a_job_goes_from_queued_to_succeeded_and_tells_each_state_once(tables: Tables) -> None:
    tables.worker()
    job = tables.submit()
    run = tables.begin(job)
    assert tables.jobs.report(run, [phase("build"), {"event": "log", "message": "hello"}]) == "go_on"
    assert (tables.state(job), tables.jobs.get(job.id).phase) == ("running", "build")
    tables.jobs.finish(run, Ending("succeeded", "Done.", result={"outcome": "succeeded"}, phase_seconds={"build": 2.0}))
    assert tables.states(job) == ["queued", "starting", "running", "succeeded"]
    assert [event.number for event in tables.jobs.events(job.id)] == list(range(1, 7))
    assert tables.jobs.phase_seconds() == {("measure", "build"): (1, 2.0)}
    assert tables.jobs.get(job.id).finished_at is not None


def test_without_hardware_a_job_waits_and_says_so_until_there_is_some(tables: Tables) -> None:
    tables.worker(protocol=0)  # an older version
    tables.worker("other", classes=("cuda/nvidia-h100-sxm",))
    job = tables.submit()
    assert tables.state(job) == "waiting_for_hardware"
    assert "job protocol 1: none is there" in (tables.jobs.get(job.id).message or "")
    tables.worker("new")
    tables.jobs.tidy()
    assert tables.state(job) == "queued"
    time.sleep(QUICK.dead_seconds)
    tables.jobs.tidy()
    assert tables.state(job) == "waiting_for_hardware"


CARD = "cuda/nvidia-t4-16gb"


def test_a_job_of_two_devices_waits_for_a_worker_that_has_two_and_says_who_has_one(tables: Tables) -> None:
    tables.worker("one", classes=(CARD, "cpu"))
    queue = queue_of_devices(CARD, 2)
    job = tables.submit(device_class=CARD, device_count=2, queue=queue)
    assert tables.state(job) == "waiting_for_hardware"
    said = f"Waits for a worker with 2 x {CARD}, with job protocol 1: one has 1."
    assert tables.jobs.get(job.id).message == said
    assert tables.jobs.to_dispatch(queues_of("one", {CARD: 1}), 1) == []
    tables.worker("two", classes=(CARD, "cpu"), each=2)
    tables.jobs.tidy()
    assert tables.state(job) == "queued"
    assert [found.id for found in tables.jobs.to_dispatch(queues_of("two", {CARD: 2}), 1)] == [job.id]


def test_a_worker_that_was_asked_for_must_have_the_devices_too(tables: Tables) -> None:
    tables.worker("one", classes=(CARD,))
    job = tables.submit(device_class=CARD, device_count=2, queue="worker/one")
    assert tables.state(job) == "waiting_for_hardware"
    assert f"the worker that was asked for, with 2 x {CARD}" in (tables.jobs.get(job.id).message or "")
    assert tables.state(tables.submit(device_class=CARD, queue="worker/one")) == "queued"


def test_ranks_of_one_job_share_the_processor(tables: Tables) -> None:
    tables.worker()
    assert tables.state(tables.submit(device_count=4)) == "queued"


def test_a_list_reads_neither_configurations_nor_results(tables: Tables) -> None:
    tables.submit()
    (listed,) = tables.jobs.find().items
    assert {"spec", "result"}.isdisjoint(vars(listed))
    assert listed.state == "waiting_for_hardware"


def test_a_worker_of_an_older_protocol_is_not_offered_a_new_job(tables: Tables) -> None:
    tables.worker("old", protocol=0)
    tables.worker("new")
    job = tables.submit()
    assert tables.jobs.to_dispatch(["cpu"], 0) == []
    assert [found.id for found in tables.jobs.to_dispatch(["cpu"], 1)] == [job.id]


def test_the_same_key_is_the_same_job_and_another_request_is_refused(tables: Tables) -> None:
    first = tables.submit("key")
    assert tables.submit("key").id == first.id
    with pytest.raises(KeyReused):
        tables.submit("key", sha256="b")
    assert tables.submit().id != first.id


def test_the_same_key_at_the_same_time_is_one_job(tables: Tables) -> None:
    seen: list[str] = []
    threads = [threading.Thread(target=lambda: seen.append(tables.submit("key").id)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 6
    assert len(set(seen)) == 1


def test_only_one_of_many_takes_a_job(tables: Tables) -> None:
    for name in "abcdef":
        tables.worker(name)
    job = tables.submit()
    taken: list[Run | None] = []

    def take(name: str) -> None:
        taken.append(tables.jobs.begin(job.id, 1, name))

    threads = [threading.Thread(target=take, args=(name,)) for name in "abcdef"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([run for run in taken if run is not None]) == 1


def test_a_waiting_job_is_cancelled_at_once_and_cannot_begin(tables: Tables) -> None:
    job = tables.submit()
    assert tables.jobs.cancel(job.id).state == "cancelled"
    assert tables.jobs.begin(job.id, 1, "one") is None
    assert tables.jobs.cancel(job.id).state == "cancelled"
    with pytest.raises(UnknownJob):
        tables.jobs.cancel("no job")


def test_a_running_job_learns_of_its_cancellation(tables: Tables) -> None:
    tables.worker()
    job = tables.submit()
    run = tables.begin(job)
    assert tables.jobs.cancel(job.id).state == "starting"
    assert tables.jobs.report(run, []) == "cancel"
    assert tables.jobs.report(run, [phase("build")]) == "cancel"
    tables.jobs.give_back(run, "its worker was stopped.", counts=False)
    assert tables.state(job) == "cancelled"


def test_the_jobs_of_a_dead_worker_are_tried_three_times_and_then_lost(tables: Tables) -> None:
    job = tables.submit()
    for attempt in range(1, MAXIMUM_ATTEMPTS + 1):
        tables.worker()
        tables.jobs.tidy()
        run = tables.begin(job)
        assert run.attempt == attempt
        time.sleep(QUICK.dead_seconds)
        tables.jobs.tidy()
        assert tables.jobs.report(run, [phase("build")]) == "superseded"
    assert tables.state(job) == "lost"
    assert "died 3 times" in (tables.jobs.get(job.id).message or "")


def test_a_job_that_waited_for_a_week_is_given_up(tables: Tables) -> None:
    old = tables.submit(created_at=now() - timedelta(days=WAITING_DAYS, minutes=1))
    young = tables.submit(created_at=now() - timedelta(days=WAITING_DAYS - 1))
    tables.jobs.tidy()
    assert (tables.state(old), tables.state(young)) == ("timed_out", "waiting_for_hardware")
    assert tables.jobs.get(old.id).message == "It waited for 7 days, and no worker could run it."


def test_what_a_worker_that_was_given_up_writes_changes_nothing(tables: Tables) -> None:
    tables.worker()
    job = tables.submit()
    old = tables.begin(job)
    time.sleep(QUICK.dead_seconds)
    tables.jobs.tidy()
    tables.worker("two")
    new = tables.begin(job, "two")
    tables.jobs.finish(old, Ending("succeeded", result={"outcome": "succeeded"}))
    tables.jobs.give_back(old, "too late", counts=True)
    assert tables.jobs.begin(job.id, 1, "one") is None  # the engine's old hand-over comes back
    assert tables.state(job) == "starting"
    tables.jobs.finish(new, Ending("failed", "no", "device_error"))
    assert tables.state(job) == "failed"


def test_a_cancelled_job_of_a_dead_worker_is_cancelled(tables: Tables) -> None:
    tables.worker()
    job = tables.submit()
    tables.begin(job)
    tables.jobs.cancel(job.id)
    time.sleep(QUICK.dead_seconds)
    tables.jobs.tidy()
    assert tables.state(job) == "cancelled"


def test_an_infrastructure_failure_is_tried_three_times_and_then_fails(tables: Tables) -> None:
    tables.worker()
    job = tables.submit()
    for _ in range(MAXIMUM_ATTEMPTS):
        tables.jobs.give_back(tables.begin(job), "the disk is full.", counts=True)
    found = tables.jobs.get(job.id)
    assert (found.state, found.failure_kind) == ("failed", "infrastructure")
    assert found.message == "Tried 3 times: the disk is full."


def test_a_stopped_worker_does_not_use_up_an_attempt(tables: Tables) -> None:
    tables.worker()
    job = tables.submit()
    for _ in range(5):
        tables.jobs.give_back(tables.begin(job), "its worker was stopped.", counts=False)
    assert (tables.state(job), tables.jobs.get(job.id).attempts) == ("queued", 0)


def test_a_recovered_attempt_of_the_same_worker_goes_on_under_the_next_number(tables: Tables) -> None:
    tables.worker()
    job = tables.submit()
    assert tables.begin(job).attempt == 1
    again = tables.jobs.begin(job.id, 1, "one")
    assert again is not None
    assert again.attempt == 2


def test_jobs_that_a_living_worker_does_not_know_wait_again(tables: Tables) -> None:
    tables.worker()
    known, unknown = tables.submit(), tables.submit()
    tables.begin(known)
    tables.begin(unknown)
    tables.jobs.abandoned("one", [known.id])
    assert (tables.state(known), tables.state(unknown)) == ("starting", "queued")


def test_a_calibration_is_kept_with_the_job_that_made_it(tables: Tables) -> None:
    tables.worker()
    job = tables.submit(kind="calibrate")
    tables.jobs.finish(tables.begin(job), Ending("succeeded", result={"calibration": {"curves": 1}}))
    with tables.database.reading() as session:
        kept = session.get(Calibration, job.id)
    assert kept is not None
    assert (kept.device_class, kept.device_id, kept.document) == ("cpu", "this-cpu", {"curves": 1})


def test_lists_are_paged_newest_first_and_filtered(tables: Tables) -> None:
    jobs = [tables.submit() for _ in range(5)]
    tables.jobs.cancel(jobs[0].id)
    first = tables.jobs.find(limit=2)
    second = tables.jobs.find(limit=2, before=first.next)
    third = tables.jobs.find(limit=2, before=second.next)
    listed = [job.id for page in (first, second, third) for job in page.items]
    assert listed == sorted((job.id for job in jobs), reverse=True)
    assert third.next is None
    assert [job.id for job in tables.jobs.find(states=("cancelled",)).items] == [jobs[0].id]


def test_events_are_read_from_any_number_on(tables: Tables) -> None:
    tables.worker()
    job = tables.submit()
    run = tables.begin(job)
    tables.jobs.report(run, [phase("build")] + [{"event": "log", "message": str(n)} for n in range(10)])
    everything = tables.jobs.events(job.id)
    assert [event.number for event in tables.jobs.events(job.id, after=5)] == [e.number for e in everything[5:]]


def test_the_metrics_count_by_state_and_know_how_long_the_oldest_waits(tables: Tables) -> None:
    tables.submit()
    tables.jobs.cancel(tables.submit().id)
    time.sleep(0.05)
    assert tables.jobs.counts() == {("measure", "waiting_for_hardware"): 1, ("measure", "cancelled"): 1}
    assert 0.05 <= tables.jobs.queue_ages()["cpu"] < 10


def test_the_final_states_are_those_of_the_specification() -> None:
    from app.db.changes import FINAL

    assert set(FINAL) == FINAL_STATES
