from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from planner.advice import merge_patch

BASE: dict[str, Any] = {
    "model": {"id": "meta-llama/Llama-3.1-8B"},
    "machine": {"device": "nvidia-rtx-4090-24gb"},
    "run": {"method": "full", "tokens": 10_000_000},
}
FREE: dict[str, Any] = {
    "run.method": ["full", "lora", "qlora"],
    "run.activation_checkpointing": ["none", "full"],
    "run.micro_batch_size": [1, 2, 4],
    "run.lora.rank": [8, 64],
}


def post(client: TestClient, **changes: Any) -> Any:
    return client.post("/api/v1/searches", json={"base": BASE, "free": FREE, **changes})


def test_a_search_answers_plans_frontier_and_how_many_were_evaluated(client: TestClient) -> None:
    body = post(client, limit=5).json()
    assert body["evaluated"] == 2 * 3 * (1 + 2 + 2)
    assert 0 < len(body["plans"]) <= 5
    assert body["frontier"]
    assert body["feasible"] + sum(reason["count"] for reason in body["refused"]) == body["evaluated"]
    assert body["prices_as_of"][0] <= body["prices_as_of"][1]


def test_the_change_of_a_plan_makes_it_on_the_estimate_as_well(real_client: TestClient) -> None:
    body = post(real_client).json()
    assert body["base_verdict"] == "does_not_fit"
    for plan in [*body["plans"], body["best"]["smallest_change"]]:
        answer = real_client.post("/api/v1/estimates?advice=none", json=merge_patch(BASE, plan["change"])).json()
        assert answer["verdict"] == "fits"
        assert answer["memory"]["device"]["required_bytes"] == plan["required_bytes"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"free": {"run.method": []}}, "free.run.method"),
        ({"free": {"run.method": ["magic"]}}, "run.method"),
        ({"free": {"nowhere": [1]}}, "free.nowhere"),
        ({"free": {"run.bogus": [1]}}, "run.bogus"),
        ({"free": {"run.micro_batch_size": list(range(1, 513)), "run.sequence_length": list(range(1, 513)),
                   "run.lora.rank": list(range(1, 513))}}, "free"),
        ({"free": {"run.sequence_length": [512, None]}}, "free.run.sequence_length"),
        ({"free": {"run.micro_batch_size": [1, True]}}, "free.run.micro_batch_size"),
        ({"constraints": {"hours": -1}}, "constraints.hours"),
        ({"constraints": {"happiness": 1}}, "constraints.happiness"),
        ({"limit": 0}, "limit"),
        ({"base": {"model": {"id": "a"}, "run": {"method": "magic"}}}, "base.run.method"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(client: TestClient, changes: dict[str, Any], field: str) -> None:
    answer = post(client, **changes)
    assert answer.status_code == 422, answer.text
    assert answer.json()["field"] == field
    assert answer.json()["accepted"]


def test_an_unknown_model_is_a_problem(client: TestClient) -> None:
    answer = post(client, free={"model.id": ["nobody/nothing"]})
    assert answer.status_code in (404, 424)


def test_offers_are_listed_with_their_dates(client: TestClient) -> None:
    body = client.get("/api/v1/offers", params={"q": "kaggle t4"}).json()
    (item,) = body["items"]
    assert (item["id"], item["free"], item["weekly_hours"], item["as_of"]) == ("kaggle-gpu-t4-x2", True, 30, "2026-09")
    assert body["prices_as_of"]
    assert client.get("/api/v1/offers/kaggle-gpu-t4-x2").json() == item
    assert client.get("/api/v1/offers/nothing").json()["code"] == "unknown_offer"


def test_a_rented_machine_has_a_cost(real_client: TestClient) -> None:
    asked = {**BASE, "machine": {"offer": "runpod-rtx-4090-secure"}, "run": {"method": "qlora", "tokens": 10**7}}
    body = real_client.post("/api/v1/estimates?advice=none", json=asked).json()
    assert body["costs"]["price_as_of"] == "2026-06-24"
    assert body["throughput"]["cost_usd"] == pytest.approx(body["throughput"]["seconds_to_finish"] / 3600 * 0.69)
