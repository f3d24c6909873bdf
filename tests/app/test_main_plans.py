"""The plans that trainfit exists for, through the page and the API, with the real engine."""

from __future__ import annotations

import re

import pytest
from starlette.testclient import TestClient

from planner.catalog.models import all_models
from planner.hardware import all_devices

LLAMA = "model=meta-llama/Llama-3.1-8B&device=nvidia-rtx-4090-24gb"


def model_id(*words: str) -> str:
    return next(entry.id for entry in all_models() if all(word in entry.id for word in words))


@pytest.mark.parametrize(
    ("query", "verdicts"),
    [
        (f"{LLAMA}&method=qlora", {"fits"}),
        (f"{LLAMA}&method=full", {"does_not_fit"}),
        (f"model={model_id('Qwen3-30B-A3B')}&device=nvidia-rtx-4090-24gb&method=qlora", {"does_not_fit"}),
        (f"model={model_id('LongCat-Flash')}&method=qlora", {"does_not_fit"}),
        ("model=Qwen/Qwen2.5-0.5B&method=lora&tokens=1000000", {"fits"}),
    ],
)
def test_a_plan_has_its_page_and_its_answer(real_client: TestClient, query: str, verdicts: set[str]) -> None:
    answer = real_client.get(f"/plan.json?v=1&{query}").json()
    assert answer["verdict"] in verdicts
    page = real_client.get(f"/plan?v=1&{query}", headers={"accept": "text/html"})
    assert page.status_code == 200
    assert answer["summary"].split(",")[0][:40] in page.text
    if answer["verdict"] == "does_not_fit":
        assert answer["advice"]


def test_every_lever_is_a_plan_that_can_be_asked(real_client: TestClient) -> None:
    page = real_client.get(f"/plan?v=1&{LLAMA}&method=full", headers={"accept": "text/html"}).text
    links = {link.replace("&amp;", "&") for link in re.findall(r'href="(/plan\?[^"]+)"', page)}
    assert len(links) > 2
    for link in links:
        assert real_client.get(link, headers={"accept": "text/html"}).status_code == 200, link


@pytest.mark.slow
def test_every_model_and_every_device_has_a_page(real_client: TestClient) -> None:
    addresses = [f"/models/{entry.id}" for entry in all_models()] + [f"/devices/{item.id}" for item in all_devices()]
    assert [address for address in addresses if real_client.get(address).status_code != 200] == []


@pytest.mark.slow
def test_every_model_has_an_answer(real_client: TestClient) -> None:
    statuses: dict[str, int] = {}
    for entry in all_models():
        asked = {"model": {"id": entry.id}, "machine": {"device": "nvidia-h100-sxm-80gb"}}
        statuses[entry.id] = real_client.post("/api/v1/estimates?advice=none", json=asked).status_code
    assert {name: status for name, status in statuses.items() if status != 200} == {}
