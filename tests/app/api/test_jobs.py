"""Jobs over REST; no worker is there, so they wait."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from starlette.testclient import TestClient

from app.db.changes import Ending
from app.db.jobs import JobStore
from app.db.rhythm import RHYTHM
from app.db.tables import Worker
from app.db.workers import WorkerStore
from app.jobs.spec import PROTOCOL
from app.main import create_app
from app.plans import Plan, Plans
from app.settings import Settings
from planner.contract import EstimateRequest
from tests.app.conftest import fake_plans

PLAN = {
    "model": {"id": "meta-llama/Llama-3.1-8B"},
    "machine": {"device": "nvidia-rtx-4090-24gb"},
    "run": {"method": "qlora"},
}
DESCRIBED = {"name": "Mine", "memory_gib": 24, "memory_bandwidth_gb_s": 1000, "tflops_float16": 100}
MEASURE = {"kind": "measure", "request": PLAN}


def put(client: TestClient, body: Any = None, **headers: str) -> Any:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post("/api/v1/jobs", json=MEASURE if body is None else body, headers=sent)


def stores(application: FastAPI) -> tuple[JobStore, WorkerStore]:
    database = application.state.database()
    return JobStore(database, RHYTHM), WorkerStore(database, RHYTHM)


def worker(application: FastAPI, name: str = "one", *classes: str) -> None:
    row: dict[str, Any] = {"id": name, "name": name, "device_classes": list(classes or ("cuda/nvidia-rtx-4090-24gb",))}
    machine = {"host": "h", "system": "s", "devices": [{"id": "nvidia-rtx-4090-24gb", "name": "a", "summary": "b"}]}
    stores(application)[1].register(Worker(**row, machine=machine, stack={"torch": "2.13"}, protocol=PROTOCOL))


def without(values: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


def test_a_submitted_job_is_stored_and_found_where_the_answer_says(client: TestClient) -> None:
    answer = put(client)
    assert answer.status_code == 202
    found = client.get(answer.headers["location"]).json()
    assert found == answer.json()
    assert (found["kind"], found["state"]) == ("measure", "waiting_for_hardware")
    assert found["device_class"] == "cuda/nvidia-rtx-4090-24gb"
    assert found["request"]["model"]["id"] == "meta-llama/Llama-3.1-8B"
    assert client.get("/api/v1/jobs").json()["items"] == [without(found, "request", "result")]
    assert client.get("/api/v1/jobs?state=failed").json() == {"items": [], "next": None}


def test_a_calibration_needs_no_plan_and_takes_the_device_of_this_machine(client: TestClient) -> None:
    found = put(client, {"kind": "calibrate"}).json()
    assert (found["device_class"], found["request"]) == ("cuda/nvidia-rtx-4090-24gb", None)


def test_a_calibration_may_name_a_worker(application: FastAPI, client: TestClient) -> None:
    worker(application, "one", "cpu")
    assert put(client, {"kind": "calibrate", "worker": "one"}).json()["device_class"] == "cpu"
    refused = put(client, {"kind": "calibrate", "worker": "two"})
    assert (refused.status_code, refused.json()["field"]) == (422, "worker")
    assert put(client, {**MEASURE, "worker": "one"}).json()["detail"] == "worker one has no cuda/nvidia-rtx-4090-24gb"


def test_workers_are_found_and_paged(application: FastAPI, client: TestClient) -> None:
    for name in ("lab-1", "lab-2", "desk"):
        worker(application, name, "cpu")
    first = client.get("/api/v1/workers?q=lab&limit=1").json()
    second = client.get(f"/api/v1/workers?q=lab&limit=1&cursor={first['next']}").json()
    assert {page["items"][0]["name"] for page in (first, second)} == {"lab-1", "lab-2"}
    assert second["next"] is None
    assert client.get("/api/v1/workers?cursor=nobody").status_code == 422


def test_a_live_worker_makes_it_queued(application: FastAPI, client: TestClient) -> None:
    worker(application)
    assert put(client).json()["state"] == "queued"
    listed = client.get("/api/v1/workers").json()["items"]
    assert [(one["name"], one["live"], one["job"]) for one in listed] == [("one", True, None)]


def test_this_machine_is_measured_by_its_own_worker(
    application: FastAPI, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker(application, "here")
    here = {"kind": "measure", "request": {**PLAN, "machine": {"device": "this-machine"}}}
    jobs, _ = stores(application)
    assert jobs.get(put(client, here).json()["id"]).queue == "cuda/nvidia-rtx-4090-24gb"
    monkeypatch.setattr("platform.node", lambda: "h")
    assert jobs.get(put(client, here).json()["id"]).queue == "worker/here"
    assert jobs.get(put(client).json()["id"]).queue == "cuda/nvidia-rtx-4090-24gb"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([], "body"),
        ({}, "kind"),
        ({"kind": "other"}, "kind"),
        ({"kind": "measure"}, "request"),
        ({"kind": "calibrate", "request": PLAN}, "request"),
        ({**MEASURE, "steps": 0}, "steps"),
        ({**MEASURE, "depth": 0}, "depth"),
        ({**MEASURE, "deadline_seconds": 1e9}, "deadline_seconds"),
        ({**MEASURE, "more": 1}, "more"),
        ({"kind": "measure", "request": {**PLAN, "run": {"method": "magic"}}}, "request.run.method"),
    ],
)
def test_what_is_wrong_is_named(client: TestClient, body: Any, field: str) -> None:
    answer = put(client, body)
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert client.get("/api/v1/jobs").json()["items"] == []


def test_the_same_key_is_the_same_job(client: TestClient) -> None:
    first = put(client, Idempotency_Key="k")
    assert put(client, Idempotency_Key="k").json()["id"] == first.json()["id"]
    other = put(client, {**MEASURE, "steps": 3}, Idempotency_Key="k")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert put(client, Idempotency_Key="x" * 256).status_code == 422
    assert len(client.get("/api/v1/jobs").json()["items"]) == 1


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"model": {"config": {"model_type": "martian"}}}, "request.model"),
        ({"run": {"method": "qlora", "offload": {"optimizer": "cpu"}}}, "request.run.offload.optimizer"),
        ({"machine": {"device": DESCRIBED}}, "request.machine.device"),
        ({"machine": {"device": "nvidia-rtx-4090-24gb", "device_count": 65}}, "request.machine.device_count"),
    ],
)
def test_a_job_that_nothing_could_ever_run_is_refused(real_client: TestClient, changes: Any, field: str) -> None:
    answer = put(real_client, {"kind": "measure", "request": {**PLAN, **changes}})
    assert (answer.status_code, answer.json()["field"]) == (422, field), answer.text
    assert real_client.get("/api/v1/jobs").json()["items"] == []


def test_a_key_that_is_known_finds_its_job_also_where_a_new_one_would_be_refused(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = put(client, Idempotency_Key="k").json()
    monkeypatch.setattr("app.jobs.service.MOST_WAITING", 1)
    assert put(client).status_code == 429

    def refuse(_plans: Plans, _request: EstimateRequest) -> Plan:
        raise AssertionError("it was planned again")

    monkeypatch.setattr(Plans, "plan", refuse)
    assert put(client, Idempotency_Key="k").json()["id"] == first["id"]


def test_a_plan_that_does_not_fit_is_offered_fewer_layers(real_client: TestClient) -> None:
    full = {**PLAN, "run": {"method": "full"}}
    refused = put(real_client, {"kind": "measure", "request": full}).json()
    assert refused["code"] == "plan_does_not_fit"
    layers = int(refused["accepted"].split()[1].rstrip(","))
    assert 0 < layers < 32
    assert put(real_client, {"kind": "measure", "request": full, "depth": layers}).json()["depth"] == layers
    assert put(real_client, {"kind": "measure", "request": full, "depth": "auto"}).json()["depth"] == layers
    assert put(real_client, {**MEASURE, "depth": "auto"}).json()["depth"] is None


def test_a_cancelled_job_stays_cancelled(client: TestClient) -> None:
    address = put(client).headers["location"]
    assert client.delete(address).json()["state"] == "cancelled"
    assert client.delete(address).json()["state"] == "cancelled"
    missing = client.delete("/api/v1/jobs/nothing")
    assert (missing.status_code, missing.json()["code"]) == (404, "unknown_job")


@pytest.mark.parametrize("job_id", ["%00", "nothing", "a" * 5000, "0198c0de-0000-7000-8000-00000000000%00"])
def test_what_is_no_id_never_reaches_the_database(
    client: TestClient, job_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(client)
    monkeypatch.setattr(JobStore, "get", None)
    assert client.get(f"/api/v1/jobs/{job_id}").status_code == 404
    assert client.get(f"/jobs/{job_id}").status_code == 404
    assert client.get(f"/api/v1/jobs/{job_id}/events").status_code == 404
    assert client.delete(f"/api/v1/jobs/{job_id}").status_code == 404
    assert client.get(f"/api/v1/calibrations/{job_id}").status_code == 404
    listed = client.get(f"/api/v1/jobs?cursor={job_id[:60]}")
    assert (listed.status_code, listed.json()["field"]) == (422, "cursor")


def events_of(text: str) -> list[dict[str, Any]]:
    """The events of a stream, with their ids."""
    found: list[dict[str, Any]] = []
    for block in text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            found.append({"id": int(fields["id"]), "event": fields["event"], **json.loads(fields["data"])})
    return found


def test_the_stream_ends_with_the_job_and_resumes_after_what_was_seen(application: FastAPI, client: TestClient) -> None:
    worker(application)
    jobs, _ = stores(application)
    job_id = put(client).json()["id"]
    run = jobs.begin(job_id, 1, "one")
    assert run is not None

    def work() -> None:
        jobs.report(run, [{"event": "phase", "phase": "build", "message": ""}])
        jobs.report(run, [{"event": "log", "message": "line\nline"}])
        jobs.finish(run, Ending("succeeded", "Done."))

    later = threading.Timer(0.7, work)
    later.start()
    answer = client.get(f"/api/v1/jobs/{job_id}/events")
    later.join()
    events = events_of(answer.text)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert [event["id"] for event in events] == [1, 2, 3, 4, 5, 6]
    assert [event.get("state") for event in events if event["event"] == "state"] == [
        "queued", "starting", "running", "succeeded"
    ]  # fmt: skip
    rest = client.get(f"/api/v1/jobs/{job_id}/events", headers={"Last-Event-ID": "4"})
    assert events_of(rest.text) == events[4:]
    assert events_of(client.get(f"/api/v1/jobs/{job_id}/events?after=5").text) == events[5:]
    assert events_of(client.get(f"/api/v1/jobs/{job_id}/events?after=6").text) == []
    assert client.get("/api/v1/jobs/nothing/events").status_code == 404


@pytest.fixture
def public(tmp_path: Path) -> Iterator[TestClient]:
    settings = Settings(data_dir=tmp_path, host="0.0.0.0", token=SecretStr("s3cret"))
    with TestClient(create_app(settings, fake_plans(settings)), base_url="http://planner.example") as opened:
        yield opened


def test_an_address_that_others_reach_asks_for_the_token(public: TestClient) -> None:
    missing = put(public)
    assert (missing.status_code, missing.json()["code"]) == (401, "token_needed")
    assert missing.headers["www-authenticate"] == "Bearer"
    assert put(public, authorization="Bearer wrong").status_code == 401
    assert put(public, authorization="Basic s3cret").status_code == 401
    made = put(public, authorization="Bearer s3cret")
    assert made.status_code == 202
    assert public.delete(made.headers["location"]).status_code == 401
    headers = {"authorization": "Bearer s3cret"}
    assert public.get(made.headers["location"], headers=headers).json() == made.json()
    assert public.delete(made.headers["location"], headers=headers).json()["state"] == "cancelled"


@pytest.mark.parametrize("path", ["", "/{id}", "/{id}/events", "?state=queued"])
def test_who_has_no_token_sees_no_job_there(public: TestClient, path: str) -> None:
    job_id = put(public, authorization="Bearer s3cret").json()["id"]
    address = "/api/v1/jobs" + path.format(id=job_id)
    for headers in ({}, {"authorization": "Bearer wrong"}, {"cookie": "trainfit-jobs=s3cret"}):
        refused = public.get(address, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (401, "token_needed")


def test_a_browser_that_showed_the_token_may_look_and_nothing_else(public: TestClient) -> None:
    job_id = put(public, authorization="Bearer s3cret").json()["id"]
    html = {"accept": "text/html"}
    asked = public.get(f"/jobs/{job_id}", headers=html)
    assert asked.status_code == 401
    assert f'action="/jobs/sign-in?job={job_id}"' in asked.text
    wrong = public.post(f"/jobs/sign-in?job={job_id}", data={"token": "wrong"}, headers=html)
    assert (wrong.status_code, public.cookies) == (401, {})
    right = public.post(f"/jobs/sign-in?job={job_id}", data={"token": "s3cret"}, headers=html, follow_redirects=False)
    assert (right.status_code, right.headers["location"]) == (303, f"/jobs/{job_id}")
    assert "s3cret" not in right.headers["set-cookie"]
    assert public.get(f"/jobs/{job_id}", headers=html).status_code == 200
    assert public.get("/jobs", headers=html).status_code == 200
    assert public.get(f"/api/v1/jobs/{job_id}").status_code == 200
    assert public.delete(f"/api/v1/jobs/{job_id}").status_code == 401
    assert public.post(f"/jobs/{job_id}/cancel", headers=html).status_code == 401


def test_the_page_of_the_workers_does_not_say_what_they_run_there(public: TestClient) -> None:
    application: Any = public.app
    worker(application, "one", "cpu")
    job_id = put(public, authorization="Bearer s3cret").json()["id"]
    jobs, _ = stores(application)
    assert jobs.begin(job_id, jobs.get(job_id).dispatches, "one") is not None
    page = public.get("/workers", headers={"accept": "text/html"}).text
    assert jobs.get(job_id).title not in page
    assert "a job" in page


def test_without_a_token_jobs_are_off_there(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, host="0.0.0.0")
    with TestClient(create_app(settings, fake_plans(settings)), base_url="http://planner.example") as client:
        refused = put(client, authorization="Bearer ")
        assert (refused.status_code, refused.json()["code"]) == (403, "jobs_are_off")


def test_a_database_that_is_gone_is_said_and_estimates_go_on(tmp_path: Path) -> None:
    url = SecretStr("postgresql://nobody@127.0.0.1:9/none")
    settings = Settings(data_dir=tmp_path, database_url=url)
    with TestClient(create_app(settings, fake_plans(settings)), base_url="http://localhost") as client:
        gone = put(client)
        assert (gone.status_code, gone.json()["code"]) == (503, "database_unavailable")
        assert client.get("/jobs", headers={"accept": "text/html"}).status_code == 503
        assert client.post("/api/v1/estimates", json=PLAN).status_code == 200


def test_the_metrics_say_what_the_tables_say(application: FastAPI, client: TestClient) -> None:
    worker(application)
    jobs, _ = stores(application)
    measured = put(client).json()["id"]
    run = jobs.begin(measured, 1, "one")
    assert run is not None
    jobs.finish(
        run, Ending("succeeded", "", phase_seconds={"build": 2.5}, step_seconds_ratio=0.9, peak_bytes_ratio=1.1)
    )
    put(client)
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    for line in (
        'trainfit_jobs{kind="measure",state="queued"} 1.0',
        'trainfit_jobs{kind="measure",state="succeeded"} 1.0',
        'trainfit_job_phase_seconds_sum{kind="measure",phase="build"} 2.5',
        'trainfit_job_phase_seconds_count{kind="measure",phase="build"} 1.0',
        'trainfit_predicted_over_measured{quantity="step_seconds"} 0.9',
        'trainfit_predicted_over_measured{quantity="peak_bytes"} 1.1',
        'trainfit_workers{device_class="cuda/nvidia-rtx-4090-24gb"} 1.0',
    ):
        assert line in answer.text.splitlines()
    assert 'trainfit_queue_age_seconds{device_class="cuda/nvidia-rtx-4090-24gb"}' in answer.text


def test_readiness_covers_a_database_that_is_named(tmp_path: Path, client: TestClient) -> None:
    assert client.get("/readyz").status_code == 200
    settings = Settings(data_dir=tmp_path, database_url=SecretStr("postgresql://nobody@127.0.0.1:9/none"))
    with TestClient(create_app(settings, fake_plans(settings)), base_url="http://localhost") as unready:
        assert unready.get("/readyz").json()["code"] == "database_unavailable"
        assert unready.get("/livez").status_code == 200
