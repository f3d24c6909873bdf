"""Real workers in processes of their own, on both kinds of database, with a pretended runner."""

from __future__ import annotations

import signal
import time
from dataclasses import replace

import psutil
import pytest
from sqlalchemy import create_engine, make_url

from app.db.database import engine_url
from app.jobs.tree import JOB_MARK, WORKER_MARK, marked
from tests.app.jobs.fleet import QUICK, Fleet

pytestmark = pytest.mark.slow


def test_a_job_runs_through_and_a_cancelled_one_leaves_no_process(fleet: Fleet) -> None:
    fleet.start()
    done = fleet.wait(fleet.submit("measure", 3, 0.01))
    assert (done.state, done.message, done.attempts) == ("succeeded", "It was measured.", 1)
    samples = [event.data["step"] for event in fleet.jobs.events(done.id) if event.event == "sample"]
    assert samples == [1, 2, 3]

    running = fleet.submit("family")
    fleet.wait(running, lambda job: job.state == "running")
    mark = f"{running}:1"
    assert len(list(marked(JOB_MARK, mark))) == 3
    asked_at = time.monotonic()
    fleet.jobs.cancel(running)
    assert fleet.wait(running).state == "cancelled"
    assert list(marked(JOB_MARK, mark)) == []
    assert time.monotonic() - asked_at < 10  # `python -m benchmarks.jobs` says how long it takes


def test_each_kind_of_bad_end_is_said_as_it_was(fleet: Fleet) -> None:
    fleet.start()
    submitted = {
        "crash": fleet.submit("end", 3),
        "segfault": fleet.submit("kill", int(signal.SIGSEGV)),
        "deadline": fleet.submit("hang", deadline_seconds=0.5),
        "cap": fleet.submit("hoard", 2**28, memory_cap_bytes=2**27),
        "calibration cap": fleet.submit("hoard", 0, kind="calibrate", deadline_seconds=20),
        "device": fleet.submit("fail", "device_error"),
        "out of memory": fleet.submit("fail", "oom_device"),
        "invalid": fleet.submit("fail", "invalid_spec"),
        "half": fleet.submit("half"),
        "full disk": fleet.submit("full_disk"),
        "killed": fleet.submit("kill", int(signal.SIGKILL)),
        "babble": fleet.submit("babble"),
    }
    ended = {name: fleet.wait(job_id, seconds=60) for name, job_id in submitted.items()}
    found = {name: (job.state, job.failure_kind, job.attempts) for name, job in ended.items()}
    assert found == {
        "crash": ("failed", "device_error", 1),
        "segfault": ("failed", "device_error", 1),
        "deadline": ("timed_out", None, 1),
        "cap": ("succeeded", "oom_host", 1),  # that it does not fit is what a measurement finds out
        "calibration cap": ("succeeded", None, 1),
        "device": ("failed", "device_error", 1),
        "out of memory": ("succeeded", "oom_device", 1),
        "invalid": ("failed", "invalid_spec", 1),
        "half": ("failed", "infrastructure", 3),
        "full disk": ("failed", "infrastructure", 3),
        "killed": ("failed", "infrastructure", 3),
        "babble": ("succeeded", None, 1),
    }
    assert "the last words" in (ended["crash"].message or "")
    assert "SIGSEGV" in (ended["segfault"].message or "")
    assert "0.5 s" in (ended["deadline"].message or "")
    assert "its cap is 0.12 GiB" in (ended["cap"].message or "")
    assert "File too large" in (ended["full disk"].message or "")
    said = [event.data for event in fleet.jobs.events(ended["babble"].id)]
    assert {"event": "log", "message": "no event"} in said


def test_a_killed_worker_goes_on_after_its_restart_and_its_runner_is_gone(fleet: Fleet) -> None:
    worker = fleet.start()
    job_id = fleet.submit("hang", deadline_seconds=1.5)
    job = fleet.wait(job_id, lambda job: job.state == "running")
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    deadline = time.monotonic() + 2
    while (left := list(marked(WORKER_MARK, job.worker_id or ""))) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left
    fleet.start()
    ended = fleet.wait(job_id)
    assert (ended.state, ended.attempts, ended.worker_id) == ("timed_out", 2, job.worker_id)


def test_another_worker_takes_over_from_a_dead_one(fleet: Fleet) -> None:
    processes = {name: fleet.start(name) for name in ("first", "second")}
    names = {worker.id: worker.name for worker, _, _ in fleet.workers.known()}
    job_id = fleet.submit("marked", str(fleet.directory / "device"), 1.0)
    taken_by = fleet.wait(job_id, lambda job: job.state == "running").worker_id
    assert taken_by is not None
    processes[names[taken_by]].send_signal(signal.SIGKILL)
    ended = fleet.wait(job_id)
    assert (ended.state, ended.attempts) == ("succeeded", 2)
    assert ended.worker_id != taken_by
    assert not (fleet.directory / "device.twice").exists()


def test_a_stopped_worker_puts_its_job_back_and_is_gone_quickly(fleet: Fleet) -> None:
    worker = fleet.start()
    job_id = fleet.submit("hang")
    fleet.wait(job_id, lambda job: job.state == "running")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(10) == 0
    job = fleet.jobs.get(job_id)
    assert (job.state, job.attempts) == ("queued", 0)
    assert [live for _, live, _ in fleet.workers.known()] == [False]


def test_two_workers_of_one_machine_share_the_device_and_never_use_it_at_once(fleet: Fleet) -> None:
    for name in ("first", "second"):
        fleet.start(name)
    device = str(fleet.directory / "device")
    submitted = [fleet.submit("marked", device, 0.2) for _ in range(6)]
    assert {fleet.wait(job_id, seconds=60).state for job_id in submitted} == {"succeeded"}
    assert not (fleet.directory / "device.twice").exists()
    assert (fleet.directory / "device").read_text() == 6 * "x"


def test_a_runner_that_is_killed_once_is_run_again(fleet: Fleet) -> None:
    fleet.start()
    ended = fleet.wait(fleet.submit("once", str(fleet.directory / "flag")))
    assert (ended.state, ended.attempts) == ("succeeded", 2)
    said = [event.data["message"] for event in fleet.jobs.events(ended.id) if event.event == "state"]
    assert any("SIGKILL" in text for text in said)


def test_a_worker_of_an_older_protocol_leaves_new_jobs_alone(fleet: Fleet) -> None:
    fleet.start("old", protocol=0)
    job_id = fleet.submit("measure", 1, 0.0)
    time.sleep(1)
    assert fleet.jobs.get(job_id).state == "waiting_for_hardware"
    fleet.start("new")
    assert fleet.wait(job_id).state == "succeeded"


def test_a_job_for_one_worker_runs_there(fleet: Fleet) -> None:
    fleet.start("first")
    fleet.start("second")
    wanted = next(worker for worker, _, _ in fleet.workers.known() if worker.name == "second")
    ended = fleet.wait(fleet.submit("measure", 1, 0.0, queue=f"worker/{wanted.id}"))
    assert (ended.state, ended.worker_id) == ("succeeded", wanted.id)


def test_the_environment_of_a_job_holds_no_secret(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINFIT_TOKEN", "secret")
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("http_proxy", "somewhere")
    worker = fleet.start()
    ended = fleet.wait(fleet.submit("look"))
    assert ended.result is not None
    seen = ended.result["stack"]
    assert seen["parent"] == worker.pid
    assert "secret" not in str(seen)
    assert "somewhere" not in str(seen)
    assert seen["environment"]["HF_HUB_OFFLINE"] == "1"
    assert seen["environment"]["CUDA_VISIBLE_DEVICES"] == ""


def test_an_idle_worker_is_small(fleet: Fleet) -> None:
    worker = fleet.start()
    assert psutil.Process(worker.pid).memory_info().rss < 150_000_000


def test_the_engine_forgets_runs_that_ended(fleet: Fleet) -> None:
    rhythm = replace(QUICK, engine_kept_seconds=0.0, forget_seconds=0.1)
    fleet.start(rhythm=rhythm)
    ended = [fleet.submit("measure", 1, 0.0), fleet.submit("fail", "device_error")]
    for job_id in ended:
        fleet.wait(job_id)
    waiting = fleet.submit("measure", 1, 0.0, queue="worker/nobody")
    engine = create_engine(make_url(engine_url(fleet.url)).set(drivername=driver_of(fleet.url)))
    schema = "" if engine.dialect.name == "sqlite" else "dbos."
    counts = [f"SELECT count(*) FROM {schema}{table}" for table in ("workflow_status", "operation_outputs")]
    until = time.monotonic() + 20
    rows = [-1]
    while any(rows) and time.monotonic() < until:
        time.sleep(0.1)
        with engine.connect() as connection:
            rows = [connection.exec_driver_sql(query).scalar_one() for query in counts]
    engine.dispose()
    assert rows == [0, 0]
    assert [fleet.jobs.get(job_id).state for job_id in ended] == ["succeeded", "failed"]
    assert fleet.jobs.get(waiting).state == "waiting_for_hardware"
    assert fleet.wait(fleet.submit("measure", 1, 0.0)).state == "succeeded"


def driver_of(url: str) -> str:
    return "sqlite" if url.startswith("sqlite") else "postgresql+psycopg"
