"""A verification that takes long: on REST and on the page it becomes a job, which a worker ends."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient

from app.db.jobs import Ending, JobStore
from app.db.rhythm import RHYTHM
from app.jobs.isolated import Ticket, WorkFailed
from app.jobs.verifier import Busy, Question
from app.main import create_app
from app.plans import Plans
from app.settings import Settings
from planner.contract import Answer
from tests.app.api.test_jobs import worker
from tests.app.conftest import fake_machine, unreachable_hub
from tests.app.fakes import FakeVerifier, fake_estimate
from tests.app.jobs.fleet import Fleet

ADDRESS = "/api/v1/verifications"
LLAMA: dict[str, Any] = {"model": {"id": "meta-llama/Llama-3.1-8B"}, "machine": {"device": "nvidia-rtx-4090-24gb"}}
QUERY = "v=1&model=meta-llama/Llama-3.1-8B&device=nvidia-rtx-4090-24gb&method=qlora"
AT_ONCE = {"prefer": "respond-async, wait=0"}
HTML = {"accept": "text/html"}


class Endless(FakeVerifier):
    """Works until it is told to stop."""

    def verify(self, question: Question, ticket: Ticket | None = None) -> Answer:
        assert ticket is not None
        self.questions.append(question)
        pause = threading.Event()
        while not ticket.cancelled:
            pause.wait(0.02)
        raise WorkFailed("cancelled", "nobody waits for the result")


class Crowded(FakeVerifier):
    def verify(self, question: Question, ticket: Ticket | None = None) -> Answer:  # noqa: ARG002
        raise Busy


def serve(settings: Settings, verifier: FakeVerifier, **changed: Any) -> TestClient:
    settings = settings.model_copy(update=changed)
    plans = Plans(settings, look=fake_machine, hub=unreachable_hub(settings), verifier=verifier)
    return TestClient(create_app(settings, plans), base_url="http://localhost:8000")


def of(client: TestClient) -> Any:
    return cast("Any", client.app)


@pytest.fixture(autouse=True)
def _made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.plans.estimate", fake_estimate)


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    """A server whose verifications never end, with a worker that is said to live."""
    with serve(settings, Endless(), verification_patience_seconds=0) as opened:
        worker(of(opened), "one", "cpu")
        yield opened


def end_with_an_answer(client: TestClient, job_id: str) -> None:
    store = JobStore(of(client).state.database(), RHYTHM)
    run = store.begin(job_id, 1, "one")
    assert run is not None
    store.report(run, [{"event": "phase", "phase": "trace", "message": "4 of 32 layers"}])
    question = of(client).state.plans._verifier.questions[0]
    answer = FakeVerifier().verify(question).model_dump(mode="json")
    store.finish(run, Ending("succeeded", "It fits.", result={"outcome": "succeeded", "verification": answer}))


def test_what_takes_long_is_a_job_whose_result_is_the_answer(client: TestClient) -> None:
    answer = client.post(ADDRESS, json=LLAMA)
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert answer.headers["location"] == f"/api/v1/jobs/{job['id']}"
    assert (job["kind"], job["state"], job["device_class"]) == ("verify", "queued", "cpu")
    assert client.post(ADDRESS, json=LLAMA).json()["id"] == job["id"]
    assert client.post(f"{ADDRESS}?advice=none", json=LLAMA).json()["id"] != job["id"]
    end_with_an_answer(client, job["id"])
    found = client.get(answer.headers["location"]).json()["result"]["verification"]
    assert found["evidence"]["tier"] == "verified"
    again = client.post(ADDRESS, json=LLAMA)
    assert (again.status_code, again.json()) == (200, found)


def test_the_page_goes_over_to_the_job_and_shows_its_answer_there(client: TestClient) -> None:
    answer = client.post(f"/plan/verify?{QUERY}", headers=HTML)
    assert answer.url.path.startswith("/jobs/")
    assert "<h1>Verify meta-llama/Llama-3.1-8B, qlora</h1>" in answer.text
    assert '<noscript><meta http-equiv="refresh" content="5"></noscript>' in answer.text
    assert '<progress id="progress" aria-label="Verification"></progress>' in answer.text
    end_with_an_answer(client, answer.url.path.removeprefix("/jobs/"))
    shown = client.get(answer.url.path, headers=HTML).text
    assert "traces the step. 4 of 32 layers" in shown
    assert "Estimate and trace, term by term" in shown
    assert 'id="timeline-drawing"' in shown
    assert len(re.findall(r"<h1\b", shown)) == 1
    assert "Evidence: <strong>verified</strong>" in client.post(f"/plan/verify?{QUERY}", headers=HTML).text
    assert client.post(f"/plan/verify.csv?{QUERY}").headers["content-type"].startswith("text/csv")


def test_a_pasted_configuration_is_shown_with_its_plan(client: TestClient) -> None:
    shown = client.post("/plan", data={"config_text": '{"model_type": "llama"}'}, headers=HTML)
    (action,) = re.findall(r'action="(/plan/verify[^"]*)"', shown.text)
    answer = client.post(action.replace("&amp;", "&"), headers=HTML)
    end_with_an_answer(client, answer.url.path.removeprefix("/jobs/"))
    (plan,) = re.findall(r'href="(/plan\?[^"]*)">The plan and its estimate', client.get(answer.url.path).text)
    assert client.get(plan.replace("&amp;", "&"), headers=HTML).status_code == 200


def test_a_cancelled_one_is_begun_anew(client: TestClient) -> None:
    job = client.post(ADDRESS, json=LLAMA).json()
    assert client.delete(f"/api/v1/jobs/{job['id']}").json()["state"] == "cancelled"
    assert client.post(ADDRESS, json=LLAMA).json()["id"] != job["id"]


def test_quick_answers_stay_answers(settings: Settings) -> None:
    with serve(settings, FakeVerifier(), verification_patience_seconds=0) as client:
        worker(of(client), "one", "cpu")
        assert client.post(ADDRESS, json=LLAMA, headers=AT_ONCE).status_code == 200
        assert client.get("/api/v1/jobs").json()["items"] == []


def test_whoever_asks_says_how_long_to_wait(settings: Settings) -> None:
    with serve(settings, Endless(), verification_patience_seconds=3600) as client:
        worker(of(client), "one", "cpu")
        assert client.post(ADDRESS, json=LLAMA, headers=AT_ONCE).status_code == 202


def test_more_than_can_wait_become_jobs(settings: Settings) -> None:
    with serve(settings, Crowded()) as client:
        assert client.post(ADDRESS, json=LLAMA).status_code == 429
        worker(of(client), "one", "cpu")
        assert client.post(ADDRESS, json=LLAMA).status_code == 202


class Late(FakeVerifier):
    """Has its answer only after others would have lost their patience."""

    def verify(self, question: Question, ticket: Ticket | None = None) -> Answer:
        threading.Event().wait(0.8)
        return super().verify(question, ticket)


def test_without_a_worker_or_the_token_one_waits(settings: Settings) -> None:
    with serve(settings, Late(), verification_patience_seconds=0) as client:
        worker(of(client), "one", "cuda/nvidia-rtx-4090-24gb")
        assert client.post(ADDRESS, json=LLAMA).status_code == 200
    reached = {"host": "0.0.0.0", "token": SecretStr("key"), "verification_patience_seconds": 0}
    with serve(settings, Late(), **reached) as client:
        worker(of(client), "two", "cpu")
        assert client.post(ADDRESS, json=LLAMA).status_code == 200
        assert client.post(ADDRESS, json=LLAMA, headers={"authorization": "Bearer key"}).status_code == 202


@pytest.mark.slow
def test_it_outlives_its_server_and_its_worker(fleet: Fleet, tmp_path: Path) -> None:
    request = {**LLAMA, "model": {"config": {"model_type": "llama", "do": ["verified", str(tmp_path / "flag")]}}}
    settings = Settings(data_dir=tmp_path / "web", database_url=SecretStr(fleet.url), verification_patience_seconds=0)
    with serve(settings, FakeVerifier()) as client:
        request["model"]["config"]["answer"] = client.post(ADDRESS, json=LLAMA).json()
    process = fleet.start()
    with serve(settings, Endless()) as client:
        job_id = client.post(ADDRESS, json=request).json()["id"]
        fleet.wait(job_id, lambda job: job.phase == "trace" and (tmp_path / "flag").exists())
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    with serve(settings, Endless()) as client:
        assert client.get(f"/api/v1/jobs/{job_id}").json()["state"] == "queued"
        fleet.start()
        assert fleet.wait(job_id).state == "succeeded"
        answer = client.post(ADDRESS, json=request)
    assert (answer.status_code, answer.json()["evidence"]["tier"]) == (200, "verified")
