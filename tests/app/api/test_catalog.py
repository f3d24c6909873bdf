from __future__ import annotations

import pytest
from starlette.testclient import TestClient


def test_models_are_searched(client: TestClient) -> None:
    body = client.get("/api/v1/models", params={"q": "llama 8b"}).json()
    assert "meta-llama/Llama-3.1-8B" in [item["id"] for item in body["items"]]
    assert body["next"] is None


@pytest.mark.parametrize("kind", ["models", "devices", "offers"])
def test_pages_follow_each_other_without_gap(client: TestClient, kind: str) -> None:
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = client.get(f"/api/v1/{kind}", params={"limit": 100} | ({"cursor": cursor} if cursor else {})).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) > 150


@pytest.mark.parametrize("kind", ["models", "devices", "offers"])
@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "cursor=nowhere", "q=" + "x" * 201])
def test_bad_parameters_are_problems(client: TestClient, kind: str, query: str) -> None:
    answer = client.get(f"/api/v1/{kind}?{query}")
    assert answer.status_code == 422
    assert answer.json()["field"] == query.partition("=")[0]


def test_one_model(client: TestClient) -> None:
    body = client.get("/api/v1/models/meta-llama/Llama-3.1-8B").json()
    assert body["config"]["model_type"] == "llama"


def test_one_device(client: TestClient) -> None:
    body = client.get("/api/v1/devices/nvidia-rtx-4090-24gb").json()
    assert body["memory_total_bytes"] > 23 * 2**30
    assert body["provenance"]["memory_total_bytes"]["source"]


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("/api/v1/models/nobody/nothing", "unknown_model"),
        ("/api/v1/devices/nothing", "unknown_device"),
        ("/api/v1/nothing", "not_found"),
        ("/nothing", "not_found"),
    ],
)
def test_what_is_not_there_is_a_problem(client: TestClient, address: str, code: str) -> None:
    answer = client.get(address)
    assert (answer.status_code, answer.json()["code"]) == (404, code)
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("method", "address"), [("DELETE", "/api/v1/estimates"), ("POST", "/api/v1/models"), ("PUT", "/livez")]
)
def test_other_methods_are_problems(client: TestClient, method: str, address: str) -> None:
    answer = client.request(method, address)
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"]


@pytest.mark.parametrize("address", ["/livez", "/readyz"])
def test_health(client: TestClient, address: str) -> None:
    assert client.get(address).json() == {"status": "ok"}


def test_a_device_is_also_called_as_pages_call_it(client: TestClient) -> None:
    (found,) = client.get("/api/v1/devices?q=nvidia-rtx-4090-24gb").json()["items"]
    assert found["display_name"].endswith("RTX 4090 24 GiB")
