from __future__ import annotations

import pytest
from starlette.testclient import TestClient

PAGE = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize(
    "path",
    ["/", "/models", "/devices", "/about", "/plan?v=1&model=meta-llama/Llama-3.1-8B", "/livez", "/api/v1/models"],
)
def test_head_is_get_without_its_body(client: TestClient, path: str) -> None:
    head, get = client.head(path), client.get(path)
    assert (head.status_code, head.content) == (get.status_code, b"")
    assert head.headers["content-type"] == get.headers["content-type"]
    assert head.headers["content-length"] == str(len(get.content))


def test_a_stream_has_no_head(client: TestClient) -> None:
    assert client.head("/api/v1/jobs/1/events").status_code in (404, 405)


@pytest.mark.parametrize(
    "path", ["/nothing", "/models/none", "/devices/none", "/static/none.css", "/plan?v=1&model=a/b"]
)
def test_errors_are_pages_for_browsers_and_problems_for_programs(client: TestClient, path: str) -> None:
    page, problem = client.get(path, headers={"accept": PAGE}), client.get(path, headers={"accept": "*/*"})
    assert page.status_code == problem.status_code >= 400
    assert page.headers["content-type"].startswith("text/html")
    assert problem.headers["content-type"] == "application/problem+json" or path.startswith("/plan")


def test_what_is_not_there_is_named_and_harmless(client: TestClient) -> None:
    page = client.get("/<script>alert(1)</script>" + "x" * 500, headers={"accept": PAGE})
    assert page.status_code == 404
    assert "There is nothing at /" in page.text
    assert "<script>alert" not in page.text
    assert "x" * 100 not in page.text


def test_the_remedies_show_code_as_code(client: TestClient) -> None:
    assert "<code>trainfit models WORD</code>" in client.get("/errors").text
