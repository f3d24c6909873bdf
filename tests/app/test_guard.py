from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from app.guard import MAXIMUM_BODY_BYTES, is_loopback
from app.main import create_app
from app.settings import Settings


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "::1", "[::1]", "a.localhost", "LOCALHOST"])
def test_loopback_names(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "example.com", "localhost.example.com", "192.168.1.1", "", "::"])
def test_other_names(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:8000", "", "127.0.0.1.evil.example"])
def test_a_rebound_name_is_refused(client: TestClient, host: str) -> None:
    answer = client.get("/livez", headers={"host": host})
    assert answer.status_code == 400
    assert answer.json()["code"] == "unknown_host"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8000", "[::1]:8000"])
def test_loopback_names_are_answered(client: TestClient, host: str) -> None:
    assert client.get("/livez", headers={"host": host}).status_code == 200


def test_a_server_for_others_answers_to_any_name(tmp_path: Path) -> None:
    client = TestClient(create_app(Settings(host="0.0.0.0", data_dir=tmp_path)), base_url="http://planner.example")
    assert client.get("/livez").status_code == 200


def test_named_hosts_are_the_only_ones(tmp_path: Path) -> None:
    settings = Settings(host="0.0.0.0", allowed_hosts=("planner.example",), data_dir=tmp_path)
    client = TestClient(create_app(settings), base_url="http://planner.example:8000")
    assert client.get("/livez").status_code == 200
    assert client.get("/livez", headers={"host": "other.example"}).status_code == 400


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:9999"},
    ],
)
def test_a_form_of_another_site_is_refused(client: TestClient, headers: dict[str, str]) -> None:
    answer = client.post("/plan", data={"model": "a/b"}, headers=headers)
    assert answer.status_code == 403
    assert answer.json()["code"] == "cross_site"


@pytest.mark.parametrize("headers", [{"sec-fetch-site": "same-origin"}, {"origin": "http://localhost:8000"}, {}])
def test_our_own_form_passes(client: TestClient, headers: dict[str, str]) -> None:
    sent = {"model": "meta-llama/Llama-3.1-8B", "device": "nvidia-rtx-4090-24gb"}
    assert client.post("/plan", data=sent, headers=headers, follow_redirects=False).status_code == 303


def test_a_large_body_is_refused_by_its_length(client: TestClient) -> None:
    headers = {"content-type": "application/json", "content-length": str(50_000_000)}
    answer = client.post("/api/v1/estimates", content=b"{}", headers=headers)
    assert answer.status_code == 413
    assert answer.json()["code"] == "too_large"


def test_a_large_body_is_refused_while_it_streams(client: TestClient) -> None:
    sent = 0

    def chunks() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(800):
            sent += 65_536
            yield b" " * 65_536

    answer = client.post("/api/v1/estimates", content=chunks(), headers={"content-type": "application/json"})
    assert answer.status_code == 413


def test_a_length_that_is_no_number_is_refused(client: TestClient) -> None:
    headers = {"content-type": "application/json", "content-length": "-1"}
    assert client.post("/api/v1/estimates", content=b"{}", headers=headers).status_code == 413


def test_the_largest_allowed_body_is_read(client: TestClient) -> None:
    body = b'{"model": {"id": "meta-llama/Llama-3.1-8B"}}'.ljust(MAXIMUM_BODY_BYTES)
    assert client.post("/api/v1/estimates", content=body, headers={"content-type": "application/json"}).is_success


@pytest.mark.parametrize("path", ["/", "/nope", "/static/trainfit.css", "/api/v1/estimates"])
def test_every_answer_carries_the_security_headers(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


def test_json_renders_nothing_and_is_never_taken_for_something_else(client: TestClient) -> None:
    assert client.get("/api/v1/models").headers["x-content-type-options"] == "nosniff"
