"""Which calibration an answer rests on, and how it is shown."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.calibrations import CalibrationBook, belongs
from app.db import tables
from app.db.opened import OpenedDatabase
from app.main import create_app
from app.settings import Settings
from planner.hardware import Machine, fingerprint_of
from planner.hardware.calibration import Calibration
from tests.app.conftest import fake_machine, fake_plans
from tests.planner.throughput.calibrations import flat_calibration

MINE = fingerprint_of(fake_machine())


def keep(settings: Settings, document: dict[str, Any], minute: int = 0) -> None:
    """A row as the end of a calibrating job writes it."""
    database = OpenedDatabase(settings)
    with database().writing() as session:
        row = tables.Calibration(
            id=document["id"],
            device_class=document["device_class"],
            device_id=document["device_id"],
            document=document,
            created_at=datetime(2026, 11, 24, 12, minute, tzinfo=UTC),
        )
        session.add(row)
    database.close()


def store(settings: Settings, *calibrations: Calibration) -> None:
    for minute, calibration in enumerate(calibrations):
        keep(settings, calibration.model_dump(mode="json"), minute)


def book(settings: Settings, fresh_seconds: float = 10.0) -> CalibrationBook:
    return CalibrationBook(OpenedDatabase(settings), fresh_seconds)


def test_without_a_database_none_is_made(settings: Settings, tmp_path: Path) -> None:
    assert book(settings).on(fake_machine()).calibration is None
    assert list(tmp_path.iterdir()) == []


def test_the_newest_of_this_machine_is_taken_and_older_ones_stay_readable(settings: Settings) -> None:
    store(
        settings, flat_calibration("old", MINE), flat_calibration("new", MINE), flat_calibration("other", "elsewhere")
    )
    opened = book(settings)
    found = opened.on(fake_machine()).calibration
    assert found is not None
    assert found.id == "new"
    assert [each.id for each in opened.newest()] == ["other", "new", "old"]
    old = opened.get("old")
    assert old is not None
    assert old.curves == flat_calibration().curves
    assert opened.get("none") is None
    opened.close()


def test_another_machine_keeps_the_catalogues_rates(settings: Settings) -> None:
    store(settings, flat_calibration("one", "another processor, 8 cores"))
    opened = book(settings)
    assert opened.on(fake_machine()).calibration is None
    opened.close()


def test_a_device_of_the_catalogue_is_known_by_its_id() -> None:
    elsewhere: Machine = replace(fake_machine(), is_this_machine=False)
    assert belongs(flat_calibration(device_id="nvidia-rtx-4090-24gb"), elsewhere)
    assert not belongs(flat_calibration(device_id="nvidia-rtx-3090-24gb"), elsewhere)


def test_a_new_one_is_seen_after_a_while_without_waiting(settings: Settings) -> None:
    store(settings, flat_calibration("old", MINE))
    opened = book(settings, fresh_seconds=0.0)
    assert [each.id for each in opened.newest()] == ["old"]
    keep(settings, flat_calibration("new", MINE).model_dump(mode="json"), minute=1)
    ends = time.monotonic() + 5
    while len(opened.newest()) == 1 and time.monotonic() < ends:
        time.sleep(0.01)
    assert [each.id for each in opened.newest()] == ["new", "old"]
    opened.close()


def test_a_document_that_we_cannot_read_is_passed_over(settings: Settings) -> None:
    keep(settings, {"id": "later", "device_class": "cpu/x", "device_id": "x", "schema_version": 9})
    opened = book(settings)
    assert opened.newest() == ()
    opened.close()


@pytest.fixture
def calibrated(settings: Settings) -> TestClient:
    store(settings, flat_calibration("c0ffee", MINE))
    return TestClient(create_app(settings, fake_plans(settings)), base_url="http://localhost:8000")


def test_rest_and_the_page_say_calibrated_and_name_it(calibrated: TestClient) -> None:
    body = {"model": {"id": "meta-llama/Llama-3.1-8B"}, "run": {"method": "lora"}}
    answer = calibrated.post("/api/v1/estimates", json=body).json()
    assert answer["throughput"]["basis"] == "calibrated"
    assert answer["assumed"]["machine.calibration"].startswith("c0ffee of 2026-11-24")
    page = calibrated.get("/plan?model=meta-llama/Llama-3.1-8B&device=this-machine").text
    assert "measured on this machine" in page
    assert "c0ffee" in page


def test_rest_lists_calibrations_and_gives_one_whole(calibrated: TestClient) -> None:
    (item,) = calibrated.get("/api/v1/calibrations").json()["items"]
    assert (item["id"], item["interval"]) == ("c0ffee", [0.9, 1.1])
    whole = calibrated.get("/api/v1/calibrations/c0ffee").json()
    assert Calibration.model_validate(whole) == flat_calibration("c0ffee")
    assert calibrated.get("/api/v1/calibrations/none").status_code == 404


def test_pages_show_the_list_and_the_curves(calibrated: TestClient) -> None:
    assert 'href="/calibrations/c0ffee"' in calibrated.get("/calibrations").text
    page = calibrated.get("/calibrations/c0ffee").text
    assert "Matrix products" in page
    assert "<polyline" in page
    assert "llama-small full float32" in page
    assert calibrated.get("/calibrations/none").status_code == 404


def test_the_page_says_how_where_nothing_was_calibrated(client: TestClient) -> None:
    assert "No device was calibrated yet" in client.get("/calibrations").text


def test_the_list_is_searched_and_paged(settings: Settings) -> None:
    store(settings, *(flat_calibration(name, MINE) for name in ("one", "two", "three")))
    with TestClient(create_app(settings, fake_plans(settings)), base_url="http://localhost:8000") as client:
        first = client.get("/api/v1/calibrations", params={"limit": 2}).json()
        assert [item["id"] for item in first["items"]] == ["three", "two"]
        second = client.get("/api/v1/calibrations", params={"cursor": first["next"]}).json()
        assert [item["id"] for item in second["items"]] == ["one"]
        assert second["next"] is None
        assert client.get("/api/v1/calibrations", params={"q": "two"}).json()["items"][0]["id"] == "two"
        refused = client.get("/api/v1/calibrations", params={"cursor": "nowhere"})
        assert (refused.status_code, refused.json()["field"]) == (422, "cursor")
