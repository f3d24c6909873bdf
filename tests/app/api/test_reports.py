"""Keeping comparisons over REST."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from starlette.testclient import TestClient

from app.main import create_app
from app.plans import Plans
from app.settings import Settings

MODEL = {"id": "meta-llama/Llama-3.1-8B"}
REQUESTS = [
    {"model": MODEL, "machine": {"device": "this-machine"}, "run": {"method": "full"}},
    {"model": MODEL, "machine": {"device": "nvidia-rtx-4090-24gb"}, "run": {"method": "qlora"}},
    {"model": MODEL, "machine": {"device": "nvidia-t4-16gb", "device_count": 2}, "run": {"method": "lora"}},
]
BODY = {"title": "Which one?", "notes": "Three ways.", "requests": REQUESTS, "baseline": 1}


def create(client: TestClient, body: Any = BODY) -> dict[str, Any]:
    answer = client.post("/api/v1/reports", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def test_a_comparison_is_kept_and_found_again(client: TestClient) -> None:
    answer = client.post("/api/v1/reports", json=BODY)
    created = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/api/v1/reports/{created['id']}"
    assert created.keys() == {"id", "url", "edit_token"}
    assert created["url"] == f"/r/{created['id']}"
    assert re.fullmatch(r"[a-z2-7]{26}", created["id"])
    report = client.get(answer.headers["location"]).json()
    assert (report["title"], report["notes"], report["baseline"]) == ("Which one?", "Three ways.", 1)
    assert [item["verdict"] for item in report["answers"]] == ["does_not_fit", "fits", "fits"]
    assert [item["run"]["method"] for item in report["requests"]] == ["full", "qlora", "lora"]
    assert report["plans"][0]["device"] == "This machine: GeForce RTX 4090 24 GiB"
    assert report["plans"][2]["device"] == "2 × Tesla T4 15 GiB"
    assert "edit_token" not in report
    assert created["edit_token"] not in str(report)


def test_a_report_holds_what_its_answers_rest_on(client: TestClient) -> None:
    report = client.get(f"/api/v1/reports/{create(client)['id']}").json()
    assert [config["model_type"] for config in report["configs"]] == ["llama"] * 3
    assert report["machines"][0]["memory_total_bytes"] > 2**34
    assert report["machines"][0]["is_this_machine"] is True


def test_the_answers_are_those_of_the_same_requests(client: TestClient) -> None:
    report = client.get(f"/api/v1/reports/{create(client)['id']}").json()
    for request, answer in zip(REQUESTS, report["answers"], strict=True):
        alone = client.post("/api/v1/estimates", json=request).json()
        assert answer["memory"] == alone["memory"]
        assert answer["throughput"] == alone["throughput"]


def test_a_title_is_made_when_none_is_given(client: TestClient) -> None:
    created = create(client, {"requests": REQUESTS[1:]})
    report = client.get(f"/api/v1/reports/{created['id']}").json()
    assert report["title"] == "Llama-3.1-8B on GeForce RTX 4090 24 GiB or 2 × Tesla T4 15 GiB"


def test_only_the_maker_edits_and_deletes(client: TestClient) -> None:
    created = create(client)
    address = f"/api/v1/reports/{created['id']}"
    before = client.get(address).json()
    for headers in ({}, bearer("tfr_wrong"), {"authorization": f"Basic {created['edit_token']}"}):
        assert client.patch(address, json={"title": "x"}, headers=headers).json()["code"] == "not_the_maker"
        assert client.delete(address, headers=headers).status_code == 403
    edited = client.patch(address, json={"title": " New\n title "}, headers=bearer(created["edit_token"])).json()
    assert (edited["title"], edited["notes"]) == ("New title", "Three ways.")
    assert edited["edited_at"] is not None
    unchanged = {name: value for name, value in before.items() if name not in ("title", "edited_at")}
    assert {name: edited[name] for name in unchanged} == unchanged
    assert [item["id"] for item in client.get("/api/v1/reports?q=new").json()["items"]] == [created["id"]]
    assert client.delete(address, headers=bearer(created["edit_token"])).status_code == 204
    assert client.get(address).json()["code"] == "unknown_report"
    assert client.delete(address, headers=bearer(created["edit_token"])).status_code == 404


@pytest.mark.parametrize("field", ["requests", "answers", "baseline", "created_at", "id"])
def test_nothing_but_title_and_notes_can_be_changed(client: TestClient, field: str) -> None:
    created = create(client)
    answer = client.patch(f"/api/v1/reports/{created['id']}", json={field: []}, headers=bearer(created["edit_token"]))
    assert (answer.status_code, answer.json()["field"]) == (422, field)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"requests": REQUESTS[:1]}, "requests"),
        ({"requests": REQUESTS[:1] * 9}, "requests"),
        ({"requests": "all"}, "requests"),
        ({"title": "x" * 201}, "title"),
        ({"title": 3}, "title"),
        ({"notes": "x" * 10_001}, "notes"),
        ({"baseline": 3}, "baseline"),
        ({"baseline": -1}, "baseline"),
        ({"baseline": "0"}, "baseline"),
        ({"public": True}, "public"),
        ({"requests": [REQUESTS[0], {"model": MODEL, "run": {"method": "magic"}}]}, "requests.1.run.method"),
        ({"requests": [REQUESTS[0], 7]}, "requests.1.body"),
        ({"requests": [REQUESTS[0], {"model": MODEL, "machine": {"device": "abacus"}}]}, "requests.1.machine.device"),
    ],
)
def test_what_is_wrong_is_named(client: TestClient, change: dict[str, Any], field: str) -> None:
    answer = client.post("/api/v1/reports", json={**BODY, **change})
    assert answer.status_code == 422
    assert answer.json()["field"] == field
    assert client.get("/api/v1/reports").json()["items"] == []


def test_a_body_that_is_no_object_is_refused(client: TestClient) -> None:
    for body in ([], "text", 1):
        assert client.post("/api/v1/reports", json=body).status_code == 422


def test_control_characters_do_not_reach_the_database(client: TestClient) -> None:
    figures = {"name": "a\0card", "memory_gib": 24, "memory_bandwidth_gb_s": 500}
    request = {"model": MODEL, "machine": {"device": figures}}
    created = create(client, {"title": "a\0b", "notes": "x\0\r\ny\tz", "requests": [request, request]})
    report = client.get(f"/api/v1/reports/{created['id']}").json()
    assert (report["title"], report["notes"]) == ("ab", "x\ny\tz")
    assert report["plans"][0]["device"] == "acard"


@pytest.mark.parametrize("identifier", ["", "a", "A" * 26, "../../etc/passwd", "é" * 26, "a" * 5000, "a%00"])
def test_an_id_that_is_none_is_not_found(client: TestClient, identifier: str) -> None:
    assert client.get(f"/api/v1/reports/{identifier}", follow_redirects=False).status_code in (307, 404)


def test_the_list_is_searched_narrowed_and_paged(client: TestClient) -> None:
    made = [create(client, {**BODY, "title": f"Number {number}th"})["id"] for number in range(5)]
    first = client.get("/api/v1/reports?limit=3").json()
    rest = client.get("/api/v1/reports", params={"limit": 3, "cursor": first["next"]}).json()
    assert [item["id"] for item in first["items"] + rest["items"]] == made[::-1]
    assert rest["next"] is None
    assert [item["id"] for item in client.get("/api/v1/reports?q=NUMBER+3TH").json()["items"]] == [made[3]]
    assert len(client.get("/api/v1/reports?q=llama+4090").json()["items"]) == 5
    assert len(client.get("/api/v1/reports?verdict=does_not_fit&method=qlora").json()["items"]) == 5
    assert client.get("/api/v1/reports?verdict=tight").json()["items"] == []
    assert client.get("/api/v1/reports?cursor=elsewhere").json()["field"] == "cursor"
    assert client.get("/api/v1/reports?limit=0").json()["field"] == "limit"


def test_another_sites_page_cannot_make_or_delete(client: TestClient) -> None:
    created = create(client)
    foreign = {"sec-fetch-site": "cross-site", **bearer(created["edit_token"])}
    assert client.post("/api/v1/reports", json=BODY, headers=foreign).json()["code"] == "cross_site"
    assert client.delete(f"/api/v1/reports/{created['id']}", headers=foreign).status_code == 403


def test_on_an_address_that_others_reach_making_is_paced(application: FastAPI, tmp_path: Path) -> None:
    plans: Plans = application.state.plans
    with TestClient(create_app(Settings(host="0.0.0.0", data_dir=tmp_path), plans)) as client:
        codes = [client.post("/api/v1/reports", json=BODY).status_code for _ in range(31)]
        assert codes == [201] * 30 + [429]
        created = client.get("/api/v1/reports?limit=1").json()["items"][0]
    assert created["plans"][0]["device"].startswith("This server: ")


def test_reports_work_on_both_kinds_of_database(application: FastAPI, database_url: str, tmp_path: Path) -> None:
    plans: Plans = application.state.plans
    settings = Settings(data_dir=tmp_path, database_url=SecretStr(database_url))
    with TestClient(create_app(settings, plans), base_url="http://localhost:8000") as client:
        odd = {"model": {"config": {"model_type": "llama", "odd": "a\0b \U0001f600"}}}
        created = create(client, {**BODY, "title": "ÄPFEL 100%", "requests": [*REQUESTS, odd]})
        report = client.get(f"/api/v1/reports/{created['id']}").json()
        assert report["configs"][3]["odd"] == "a\0b \U0001f600"
        assert [item["id"] for item in client.get("/api/v1/reports?q=äpfel+100%25").json()["items"]] == [created["id"]]
        assert client.get("/reports?method=full").status_code == 200
        answer = client.delete(f"/api/v1/reports/{created['id']}", headers=bearer(created["edit_token"]))
        assert answer.status_code == 204
        assert client.get("/api/v1/reports").json() == {"items": [], "next": None}


def test_what_an_offer_costs_is_kept_and_asked_again(real_client: TestClient) -> None:
    run = {"method": "qlora", "tokens": 1_000_000}
    rented = [
        {"model": MODEL, "machine": {"offer": offer}, "run": run}
        for offer in ("runpod-rtx-4090-secure", "kaggle-gpu-t4-x2")
    ]
    created = create(real_client, {"requests": rented})
    report = real_client.get(f"/api/v1/reports/{created['id']}").json()
    assert report["answers"][0]["costs"]["cost_usd"] > 0
    assert report["plans"][1]["device"] == "Kaggle GPU T4 x2: 2 × Tesla T4 15 GiB"
    page = real_client.get(created["url"] + "?current=1", headers={"accept": "text/html"})
    assert "so its numbers are the saved ones" in page.text
    assert page.text.count(">none<") == 2
