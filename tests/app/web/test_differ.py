from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from app.web import address
from tests.planner.observed import texts

PLAN = {"v": "1", "model": "meta-llama/Llama-3.1-8B", "device": "nvidia-rtx-4090-24gb", "method": "qlora"}
REQUEST = {
    "model": {"id": "meta-llama/Llama-3.1-8B"},
    "machine": {"device": "nvidia-rtx-4090-24gb"},
    "run": {"method": "qlora"},
}


def test_the_box_stands_beside_the_plan_of_the_address(real_client: TestClient) -> None:
    text = real_client.get("/differ", params={**PLAN, "lora.rank": "8"}).text
    assert 'value="meta-llama/Llama-3.1-8B"' in text
    assert '<input type="hidden" name="lora.rank" value="8">' in text


def test_a_pasted_text_is_explained_term_by_term(real_client: TestClient) -> None:
    text = real_client.post("/differ", data={**PLAN, "observed": texts.SUMMARY + texts.NVIDIA_SMI}).text
    for part in ("Allocated (live tensors)", "Fragmentation", "Other processes", "What would explain", "was retried"):
        assert part in text
    assert "/plan?v=1&amp;model=meta-llama/Llama-3.1-8B" in text


def test_the_result_page_has_the_box_with_its_whole_plan(real_client: TestClient) -> None:
    query = {**PLAN, "lora.rank": "8", "sequence_length": "1024"}
    text = real_client.get("/plan", params=query).text
    assert 'action="/differ"' in text
    for name, value in query.items():
        assert f'<input type="hidden" name="{name}" value="{value}">' in text
    assert address.parse(query.items()).flat["lora.rank"] == "8"


@pytest.mark.parametrize(
    ("sent", "status", "words"),
    [
        ({**PLAN, "observed": "nothing"}, 422, "No figure was recognised"),
        ({**PLAN, "observed": "<script>alert(1)</script>"}, 422, "&lt;script&gt;"),
        (PLAN, 422, "no text was sent"),
        ({"observed": texts.SUMMARY}, 422, "no model was given"),
        ({**PLAN, "method": "magic", "observed": texts.SUMMARY}, 422, "magic"),
    ],
)
def test_what_cannot_be_explained_keeps_what_was_typed(
    real_client: TestClient, sent: dict[str, str], status: int, words: str
) -> None:
    response = real_client.post("/differ", data=sent)
    assert response.status_code == status
    assert words in response.text
    assert "<script>alert" not in response.text


def test_the_api_says_the_same(real_client: TestClient) -> None:
    body = {"request": REQUEST, "observed": texts.OUT_OF_MEMORY}
    found = real_client.post("/api/v1/differences", json=body).json()
    assert found["observation"]["sources"] == ["out-of-memory message"]
    assert found["findings"][0]["term"] == "allocated"
    assert found["suspects"][0]["change"]["run"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"request": REQUEST, "observed": "?"}, "observed"),
        ({"request": REQUEST}, "observed"),
        ({"request": {"model": {"id": "a/b"}, "run": {"method": "x"}}, "observed": "?"}, "request.run.method"),
        ({"request": REQUEST, "observed": texts.SUMMARY, "more": 1}, "more"),
    ],
)
def test_the_api_names_the_field_at_fault(real_client: TestClient, body: dict[str, object], field: str) -> None:
    problem = real_client.post("/api/v1/differences", json=body)
    assert problem.status_code == 422
    assert problem.json()["field"] == field
