from __future__ import annotations

from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from starlette.testclient import TestClient

from app.problems import Problem
from app.web import address
from planner.contract import EstimateRequest
from tests.app.test_knobs import requests


def test_the_order_is_the_contracts_and_defaults_are_left_out() -> None:
    request = EstimateRequest.model_validate(
        {
            "run": {"sequence_length": 4096, "method": "qlora", "compile": False},
            "machine": {"host_memory_gib": 64, "device": "nvidia-rtx-4090-24gb", "device_count": 1},
            "model": {"id": "meta-llama/Llama-3.1-8B"},
        }
    )
    assert address.query(request) == (
        "v=1&model=meta-llama/Llama-3.1-8B&device=nvidia-rtx-4090-24gb&host_memory_gib=64"
        "&method=qlora&sequence_length=4096"
    )


@given(requests())
def test_an_address_says_the_whole_plan(request: EstimateRequest) -> None:
    query = address.query(request)
    back = EstimateRequest.model_validate(address.parse(parse_qsl(query)).values(None))
    assert address.query(back) == query


def test_a_commit_and_a_hash_stand_in_it() -> None:
    request = EstimateRequest.model_validate({"model": {"id": "a/b", "revision": "c" * 40}})
    assert address.query(request) == f"v=1&model=a/b&revision={'c' * 40}"
    pasted = EstimateRequest.model_validate({"model": {"config": {"model_type": "llama"}}})
    assert address.query(pasted, "d" * 64) == f"v=1&config={'d' * 64}"


def test_another_version_is_refused() -> None:
    with pytest.raises(Problem) as caught:
        address.parse([("v", "2"), ("model", "a/b")])
    assert caught.value.document.field == "v"


def test_characters_that_mean_something_are_escaped() -> None:
    request = EstimateRequest.model_validate({"model": {"id": "a&b=c #é"}})
    query = address.query(request)
    assert parse_qsl(query)[1] == ("model", "a&b=c #é")


def test_a_name_that_no_plan_has_is_refused_with_those_that_are_near() -> None:
    with pytest.raises(Problem) as caught:
        address.parse([("model", "a/b"), ("methd", "lora")])
    assert (caught.value.document.field, caught.value.document.accepted) == ("methd", "method")
    with pytest.raises(Problem) as caught:
        address.parse([("model", "a/b"), ("foo", "bar")])
    assert len(caught.value.document.accepted or "") < 80


def test_without_a_plan_there_is_the_form(client: TestClient) -> None:
    answer = client.get("/plan", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (302, "/")
