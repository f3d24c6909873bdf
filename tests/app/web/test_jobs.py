"""The pages of jobs and workers, as a person without JavaScript reads them."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from fastapi import FastAPI
from pydantic import SecretStr
from starlette.testclient import TestClient

from app.db.changes import Ending
from app.db.jobs import JobStore
from app.db.rhythm import RHYTHM
from app.web.jobs import chart_of
from planner.measurement import Compared, Depth, Measurement, Steps
from tests.app.api.test_jobs import PLAN, put, stores, worker

QUERY = "model=meta-llama/Llama-3.1-8B&device=nvidia-rtx-4090-24gb"


def measurement(**changes: Any) -> dict[str, Any]:
    rows = [
        Compared(name="step_seconds", unit="seconds", predicted=1.0, measured=1.25),
        Compared(name="peak_allocated_bytes", unit="bytes", predicted=2**30, measured=2**30),
    ]
    known: dict[str, Any] = {
        "request": PLAN, "configuration": {}, "model": {}, "device": "RTX 4090", "device_class": "cuda/x",
        "device_count": 1, "threads": None, "depth": Depth(layers=32, built=[32]), "rows": rows,
        "phases": [Compared(name="forward", unit="seconds", predicted=None, measured=0.4)],
        "terms": [Compared(name="weights", unit="bytes", predicted=2**29, measured=2**29)],
        "steps": Steps(warm_up=2, seconds=[1.2, 1.25], median=1.25, low=1.2, high=1.3, steady=True, rule="a rule"),
        "estimator_version": "1",
    }  # fmt: skip
    return Measurement.model_validate(known | changes).model_dump(mode="json")


def finished(application: FastAPI, client: TestClient, ending: Ending) -> str:
    worker(application)
    jobs: JobStore = stores(application)[0]
    job_id = put(client).json()["id"]
    run = jobs.begin(job_id, 1, "one")
    assert run is not None
    jobs.report(
        run,
        [
            {"event": "phase", "phase": "measure", "message": ""},
            {"event": "sample", "step": 1, "of": 2, "seconds": 1.2, "tokens_per_second": 10.0, "label": ""},
            {"event": "sample", "step": 2, "of": 2, "seconds": 1.25, "tokens_per_second": 9.0, "label": ""},
            {"event": "log", "message": "<b>from the runner</b>"},
        ],
    )
    jobs.finish(run, ending)
    return client.get(f"/jobs/{job_id}").text


def test_a_plan_is_measured_from_its_page_and_cancelled_from_the_jobs(client: TestClient) -> None:
    assert "Measure this plan" in client.get(f"/plan?{QUERY}").text
    page = client.post(f"/plan/measure?{QUERY}")
    assert page.status_code == 200
    assert page.url.path.startswith("/jobs/")
    assert "Waiting for hardware" in page.text
    assert "Measure meta-llama/Llama-3.1-8B, lora" in page.text
    assert 'http-equiv="refresh"' in page.text
    assert "static/job.js" in page.text
    cancelled = client.post(f"{page.url.path}/cancel").text
    assert "Cancelled before it started." in cancelled
    assert 'http-equiv="refresh"' not in cancelled
    assert "Cancelled" in client.get("/jobs").text


def test_a_plan_that_does_not_fit_is_measured_shallower(real_client: TestClient) -> None:
    assert "Measure a shallower copy" in real_client.get(f"/plan?{QUERY}&method=full").text
    address = real_client.post(f"/plan/measure?{QUERY}&method=full").url.path
    assert real_client.get(f"/api/v1{address}").json()["depth"] > 0


def test_a_finished_measurement_shows_both_sides(application: FastAPI, client: TestClient) -> None:
    result = {"outcome": "succeeded", "measurement": measurement(), "stack": {"torch": "2.13"}}
    text = finished(application, client, Ending("succeeded", "It is done.", result=result))
    for expected in ("Predicted against measured", ">0.8<", "Peak of live tensors", "Weights", "Forward", "a rule"):
        assert expected in text
    assert "not said" not in text  # the phases are not predicted: they have no such column
    assert "&lt;b&gt;from the runner&lt;/b&gt;" in text
    assert "<polyline" in text
    assert "Cancel" not in text.partition('id="log"')[0].partition("<main")[2]


def test_a_plan_that_another_processor_ran_says_so(application: FastAPI, client: TestClient) -> None:
    result = {"measurement": measurement(planned_device="EPYC 9654", device="Ryzen 5"), "stack": {}}
    page = finished(application, client, Ending("succeeded", "It was measured.", result=result))
    assert "The prediction is of EPYC 9654; Ryzen 5 ran the steps." in page


def test_out_of_memory_and_fewer_layers_are_labelled(application: FastAPI, client: TestClient) -> None:
    found = measurement(depth=Depth(layers=32, built=[2, 4], how="built with 2 and 4"), out_of_memory="warm_up")
    ending = Ending("succeeded", "Out of memory.", "oom_device", result={"measurement": found})
    text = finished(application, client, ending)
    assert "Extended from fewer layers." in text
    assert "the plan does not fit here" in text
    assert ">Out of memory</span>" in text


def test_a_result_of_another_version_does_not_break_the_page(application: FastAPI, client: TestClient) -> None:
    ending = Ending("succeeded", "Done.", result={"measurement": {"schema_version": 9}})
    assert "Predicted against measured" not in finished(application, client, ending)


def test_the_workers_say_what_they_are_and_can_be_calibrated(application: FastAPI, client: TestClient) -> None:
    assert "No worker was heard of" in client.get("/workers").text
    worker(application)
    text = client.get("/workers").text
    assert "Calibrate this machine" in text
    page = client.post("/calibrate?worker=one")
    assert page.url.path.startswith("/jobs/")
    assert "Calibrate cuda/nvidia-rtx-4090-24gb" in page.text


def test_an_unknown_job_has_a_page_that_says_so(client: TestClient) -> None:
    answer = client.get("/jobs/nothing", headers={"accept": "text/html"})
    assert answer.status_code == 404
    assert "Unknown job" in answer.text


def test_the_chart_spans_its_width_from_nought() -> None:
    assert chart_of([1.0]) is None
    chart = chart_of([1.0, 2.0, 0.0])
    assert chart is not None
    assert chart.points == "0.0,60.0 320.0,0.0 640.0,120.0"
    assert chart.highest_seconds == 2.0


def test_the_rhythm_fences_before_others_take_over() -> None:
    assert RHYTHM.beat_seconds < RHYTHM.fence_seconds < RHYTHM.dead_seconds


def test_what_a_job_measured_is_kept_in_a_report(application: FastAPI, client: TestClient) -> None:
    finished(application, client, Ending("succeeded", result={"measurement": measurement()}))
    job_id = client.get("/api/v1/jobs").json()["items"][0]["id"]
    assert f'href="/compare?plan=job%3D{job_id}"' in client.get(f"/jobs/{job_id}").text
    basket = client.get(f"/compare?plan=job%3D{job_id}").text
    assert "found by a job" in basket
    there = f"/compare?plan=job%3D{job_id}&plan={quote('v=1&' + QUERY)}"
    page = client.get(there)
    assert page.status_code == 200
    assert "measured</span>" in page.text
    saved = client.post("/compare/save", data={"plan": [f"job={job_id}", "v=1&" + QUERY]})
    document = client.get(saved.url.path + ".json").json()
    assert [plan["tier"] for plan in document["plans"]] == ["measured", "estimate"]
    evidence = document["answers"][0]["evidence"]
    assert (evidence["job"], evidence["measured"]["step_seconds"]) == (job_id, 1.25)
    assert [row["term"] for row in evidence["differences"]] == ["weights"]
    assert "Measured by a job" in saved.text
    again = client.get(f"{saved.url.path}?today=1").text
    assert "measured" in again


def test_the_same_over_rest_and_a_job_that_found_nothing_is_refused(application: FastAPI, client: TestClient) -> None:
    finished(application, client, Ending("succeeded", result={"measurement": measurement()}))
    job_id = client.get("/api/v1/jobs").json()["items"][0]["id"]
    made = client.post("/api/v1/reports", json={"requests": [{"job": job_id}, PLAN]})
    assert made.status_code == 201
    kept = client.get(f"/api/v1/reports/{made.json()['id']}").json()
    assert [plan["tier"] for plan in kept["plans"]] == ["measured", "estimate"]
    empty = put(client).json()["id"]
    problem = client.post("/api/v1/reports", json={"requests": [PLAN, {"job": empty}]}).json()
    assert (problem["field"], problem["value"]) == ("requests.1.job", empty)
    unknown = client.post("/api/v1/reports", json={"requests": [PLAN, {"job": "none"}]})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_job")


def test_who_may_not_see_a_job_gets_it_in_no_comparison(application: FastAPI, client: TestClient) -> None:
    finished(application, client, Ending("succeeded", result={"measurement": measurement()}))
    job_id = client.get("/api/v1/jobs").json()["items"][0]["id"]
    settings = application.state.settings
    application.state.settings = settings.model_copy(update={"host": "0.0.0.0", "token": SecretStr("secret")})
    assert client.post("/api/v1/reports", json={"requests": [PLAN, {"job": job_id}]}).status_code == 401
    assert client.get(f"/compare?plan=job%3D{job_id}").status_code == 401
    there = f"/compare?plan=job%3D{job_id}&plan={quote('v=1&' + QUERY)}"
    assert client.get(there).status_code == 401
    shown = {"authorization": "Bearer secret"}
    assert client.post("/api/v1/reports", json={"requests": [PLAN, {"job": job_id}]}, headers=shown).status_code == 201
    assert client.get(there, headers=shown).status_code == 200
