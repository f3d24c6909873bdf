"""A job's page while the job runs, in a browser with and without JavaScript."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from playwright.sync_api import Browser, Page, expect

from app.db.changes import Ending, Run
from app.db.jobs import JobStore
from app.db.rhythm import RHYTHM
from app.db.tables import Worker
from app.db.workers import WorkerStore
from tests.app.web.test_jobs import measurement

pytestmark = pytest.mark.browser
PLAN = "/plan?v=1&model=meta-llama/Llama-3.1-8B&device=nvidia-rtx-4090-24gb&method=qlora"
AXE = Path(__file__).parent / "vendor" / "axe.min.js"


@pytest.fixture
def jobs(application: FastAPI) -> JobStore:
    """The store behind the server, with a worker that a test plays."""
    database = application.state.database()
    row: dict[str, Any] = {"id": "one", "name": "one", "device_classes": ["cuda/nvidia-rtx-4090-24gb"], "stack": {}}
    machine = {"host": "h", "system": "s", "devices": [{"id": "x", "name": "RTX 4090", "summary": "23.5 GiB usable"}]}
    WorkerStore(database, RHYTHM).register(Worker(**row, machine=machine, protocol=1))
    return JobStore(database, RHYTHM)


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    opened = browser.new_context(viewport={"width": 360, "height": 900})
    yield opened.new_page()
    opened.close()


def begin(jobs: JobStore, page: Page) -> Run:
    run = jobs.begin(page.url.rpartition("/")[2], 1, "one")
    assert run is not None
    return run


def sample(step: int, seconds: float) -> dict[str, Any]:
    return {"event": "sample", "step": step, "of": 3, "seconds": seconds, "tokens_per_second": 9.0, "label": ""}


def violations(page: Page) -> list[str]:
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run().then(found => found.violations.map(one => one.id + ' ' + one.nodes[0].html))")
    return list(found)


def test_the_page_follows_the_job_by_itself_through_a_cut_to_its_result(
    page: Page, address: str, jobs: JobStore
) -> None:
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.goto(address + PLAN)
    page.get_by_role("button", name="Measure this plan").click()
    expect(page.locator("#state")).to_have_text("Waiting for hardware")
    run = begin(jobs, page)
    jobs.report(run, [{"event": "phase", "phase": "warm_up", "message": ""}, sample(1, 0.5)])
    expect(page.locator("#state")).to_have_text("Running")
    expect(page.locator("#phase")).to_have_text("warms up")
    page.context.set_offline(True)
    jobs.report(run, [sample(2, 0.7), {"event": "log", "message": "said while nobody listened"}])
    page.context.set_offline(False)
    expect(page.locator("#log")).to_contain_text("said while nobody listened", timeout=15_000)
    expect(page.locator("#steps tr")).to_have_count(2)
    expect(page.locator("#line")).to_have_attribute("points", re.compile(r"^0\.0,[\d.]+ 640\.0,0\.0$"))
    assert page.locator("#progress").evaluate("bar => [bar.value, bar.max]") == [2, 3]
    assert violations(page) == []
    jobs.finish(run, Ending("succeeded", "It is done.", result={"outcome": "succeeded", "measurement": measurement()}))
    expect(page.get_by_role("heading", name="Predicted against measured")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert violations(page) == []
    assert not [text for text in complaints if "ERR_INTERNET_DISCONNECTED" not in text]


def test_a_running_job_is_cancelled_and_its_page_says_so(page: Page, address: str, jobs: JobStore) -> None:
    page.goto(address + PLAN)
    page.get_by_role("button", name="Measure this plan").click()
    run = begin(jobs, page)
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#log")).to_contain_text("Cancellation was asked for.")
    assert jobs.report(run, []) == "cancel"
    jobs.finish(run, Ending("cancelled", "Cancelled while it ran."))
    expect(page.locator("#message")).to_have_text("Cancelled while it ran.")
    expect(page.get_by_role("button", name="Cancel")).to_have_count(0)


def test_without_javascript_a_reload_shows_how_far_it_is(browser: Browser, address: str, jobs: JobStore) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address + PLAN)
    page.get_by_role("button", name="Measure this plan").click()
    run = begin(jobs, page)
    jobs.report(run, [{"event": "phase", "phase": "build", "message": ""}])
    expect(page.locator("#phase")).to_have_text("builds the model", timeout=10_000)  # by the page's own refresh
    jobs.finish(run, Ending("failed", "It failed.", "device_error"))
    expect(page.locator("#state")).to_have_text("Failed", timeout=10_000)
    context.close()
