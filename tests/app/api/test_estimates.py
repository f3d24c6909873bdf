from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.api.estimates import MAXIMUM_BATCH

LLAMA = {"model": {"id": "meta-llama/Llama-3.1-8B"}, "machine": {"device": "nvidia-rtx-4090-24gb"}}
ADDRESS = "/api/v1/estimates"


def post(client: TestClient, text: str | bytes, address: str = ADDRESS) -> tuple[int, dict[str, Any]]:
    answer = client.post(address, content=text, headers={"content-type": "application/json"})
    if answer.status_code != 200:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == answer.status_code
    return answer.status_code, answer.json()


def test_an_answer_has_the_contracts_fields(client: TestClient) -> None:
    answer = client.post(ADDRESS, json=LLAMA)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body["schema_version"] == 1
    assert body["verdict"] == "fits"
    assert body["request"]["model"]["id"] == "meta-llama/Llama-3.1-8B"
    assert body["advice"]


def test_advice_is_left_out_on_request(client: TestClient) -> None:
    assert client.post(f"{ADDRESS}?advice=none", json=LLAMA).json()["advice"] == []


@pytest.mark.parametrize("verdict", ["fits", "tight", "does_not_fit", "not_modelled"])
def test_every_verdict_has_status_200(client: TestClient, verdict: str) -> None:
    asked: dict[str, Any] = {
        "fits": LLAMA,
        "tight": {**LLAMA, "run": {"micro_batch_size": 8}},
        "does_not_fit": {**LLAMA, "run": {"method": "full"}},
        "not_modelled": {**LLAMA, "model": {"config": {"model_type": "martian"}}},
    }[verdict]
    answer = client.post(ADDRESS, json=asked)
    assert (answer.status_code, answer.json()["verdict"]) == (200, verdict)


def test_this_machine_is_the_servers(client: TestClient) -> None:
    body = client.post(ADDRESS, json={"model": LLAMA["model"]}).json()
    assert body["memory"]["host"]["usable_bytes"] == 60 * 2**30


def test_code_that_a_config_names_is_ignored_with_a_warning(client: TestClient) -> None:
    config = {"model_type": "llama", "auto_map": {"AutoModel": "evil--code.Model"}}
    warnings = client.post(ADDRESS, json={**LLAMA, "model": {"config": config}}).json()["warnings"]
    assert any("auto_map" in warning for warning in warnings)


@pytest.mark.parametrize(
    ("text", "status", "code"),
    [
        (b"", 400, "invalid_json"),
        (b"{", 400, "invalid_json"),
        (b'{"model": {"id": "x"}, "run": {"epochs": NaN}}', 400, "invalid_json"),
        (b'{"model": {"config": {"hidden_size": Infinity}}}', 400, "invalid_json"),
        (b"\xff\xfe", 400, "invalid_json"),
        (b'{"model": {"id": "\\ud800"}}', 400, "invalid_json"),
        (b"[" * 100_000, 400, "invalid_json"),
        (b'{"a":' * 100_000, 400, "invalid_json"),
        (b'{"model": {"id": ' + b"9" * 10_000 + b"}}", 400, "invalid_json"),
        (b"[]", 422, "invalid_request"),
        (b"null", 422, "invalid_request"),
        (b'{"model": {"id": "x"}, "run": {"sequence_length": 1e300}}', 422, "invalid_request"),
        (b'{"model": {"config": {"model_type": "llama", "x": 1e400}}}', 422, "invalid_config"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_no_request_is_a_problem(client: TestClient, text: bytes, status: int, code: str) -> None:
    found, body = post(client, text)
    assert (found, body["code"]) == (status, code)


@pytest.mark.parametrize("media_type", ["", "text/plain", "application/x-www-form-urlencoded", "application/xml"])
def test_only_json_is_read(client: TestClient, media_type: str) -> None:
    answer = client.post(ADDRESS, content=json.dumps(LLAMA), headers={"content-type": media_type})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    "media_type", ["application/json; charset=utf-8", "Application/JSON", "application/vnd.x+json"]
)
def test_json_by_any_of_its_names_is_read(client: TestClient, media_type: str) -> None:
    answer = client.post(ADDRESS, content=json.dumps(LLAMA), headers={"content-type": media_type})
    assert answer.status_code == 200


def test_an_unknown_device_names_its_neighbours(client: TestClient) -> None:
    answer = client.post(ADDRESS, json={**LLAMA, "machine": {"device": "nvidia-rtx-4090"}})
    body = answer.json()
    assert (answer.status_code, body["code"], body["field"]) == (422, "unknown_device", "machine.device")
    assert body["value"] == "nvidia-rtx-4090"
    assert "nvidia-rtx-4090-24gb" in body["detail"]


def test_more_devices_than_this_machine_has_is_a_problem(client: TestClient) -> None:
    answer = client.post(ADDRESS, json={"model": LLAMA["model"], "machine": {"device_count": 8}})
    assert (answer.status_code, answer.json()["field"]) == (422, "machine.device_count")


def test_an_unknown_advice_choice_is_a_problem(client: TestClient) -> None:
    answer = client.post(f"{ADDRESS}?advice=some", json=LLAMA)
    assert (answer.status_code, answer.json()["field"]) == (422, "advice")


def test_a_batch_keeps_the_order_and_holds_problems(client: TestClient) -> None:
    requests = [LLAMA, {"model": {}}, {**LLAMA, "run": {"method": "full"}}, 5]
    status, body = post(client, json.dumps({"requests": requests}), f"{ADDRESS}/batch?advice=none")
    assert status == 200
    assert [item.get("verdict") or item["code"] for item in body["answers"]] == [
        "fits",
        "invalid_request",
        "does_not_fit",
        "invalid_request",
    ]


@pytest.mark.parametrize(
    ("body", "field", "accepted"),
    [
        ({}, "requests", "a list of at most 256 plans"),
        ([], "body", "an object with requests"),
        ({"requests": {}}, "requests", "a list of at most 256 plans"),
        ({"requests": [], "more": 1}, "more", "requests"),
        ({"requests": [LLAMA] * (MAXIMUM_BATCH + 1)}, "requests", "a list of at most 256 plans"),
    ],
)
def test_what_is_no_batch_is_a_problem(client: TestClient, body: Any, field: str, accepted: str) -> None:
    status, problem = post(client, json.dumps(body), f"{ADDRESS}/batch")
    assert (status, problem["field"], problem["accepted"]) == (422, field, accepted)
    assert problem["errors"][0]["field"] == field


def test_an_empty_batch_has_no_answers(client: TestClient) -> None:
    assert post(client, '{"requests": []}', f"{ADDRESS}/batch") == (200, {"answers": []})


def test_a_fault_of_the_engine_is_a_problem_too(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("app.plans.document", broken)
    quiet = TestClient(client.app, base_url="http://localhost", raise_server_exceptions=False)
    answer = quiet.post(ADDRESS, json=LLAMA)
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "ZeroDivision" not in answer.text
