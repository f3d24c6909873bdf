from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError
from starlette.testclient import TestClient

from app.problems import KINDS, Problem, shorten
from app.refusals import from_validation
from app.reports.document import MAXIMUM_PLANS, MINIMUM_PLANS, parse_report
from planner.contract import EstimateRequest

MODEL = {"model": {"id": "a/b"}}


def problem_of(values: Any) -> Problem:
    with pytest.raises(ValidationError) as caught:
        EstimateRequest.model_validate(values)
    return from_validation(caught.value)


@pytest.mark.parametrize(
    ("values", "field", "accepted"),
    [
        ({}, "model", "an object with id, revision, config"),
        ([], "body", "an object with model, machine, run"),
        ({"model": 3}, "model", "an object with id, revision, config"),
        ({"model": {"id": 3}}, "model.id", "a text"),
        ({"model": {"id": "a" * 300}}, "model.id", "a text of at most 256 characters"),
        ({"model": {"config": []}}, "model.config", "an object"),
        ({**MODEL, "run": {"lora": 3}}, "run.lora", "an object with rank, target_modules"),
        ({**MODEL, "run": {"parallelism": [1]}}, "run.parallelism", "an object with data, zero_stage"),
        ({"model": {"id": "a", "config": {}}}, "model", "exactly one"),
        ({**MODEL, "run": {"sequence_length": "2048"}}, "run.sequence_length", "an integer from 1 to 16777216"),
        ({**MODEL, "run": {"sequence_length": 0}}, "run.sequence_length", "an integer from 1"),
        ({**MODEL, "run": {"bogus": 1}}, "run.bogus", "method, objective"),
        ({**MODEL, "run": {"lora": {"rnak": 1}}}, "run.lora.rnak", "rank, target_modules"),
        ({**MODEL, "run": {"method": "magic"}}, "run.method", "one of full, lora, qlora, dora, freeze"),
        ({**MODEL, "run": {"activation_checkpointing": "z"}}, "run.activation_checkpointing", "selective_op"),
        (
            {**MODEL, "run": {"activation_checkpointing": {"every_nth": 0}}},
            "run.activation_checkpointing.every_nth",
            "an integer from 1 to 100000",
        ),
        ({**MODEL, "run": {"lora": {"target_modules": [1]}}}, "run.lora.target_modules.0", "a text"),
        ({**MODEL, "machine": {"device": 5}}, "machine.device", "a catalogue id"),
        ({**MODEL, "machine": {"device": {"memory_gib": -1}}}, "machine.device.memory_gib", "a number above 0"),
        ({**MODEL, "run": {"tokens": 1, "examples": 1}}, "run", "not both"),
        ({**MODEL, "machine": {"host_memory_gib": float("inf")}}, "machine.host_memory_gib", "a number above 0"),
    ],
)
def test_the_field_and_what_it_accepts_are_named(values: Any, field: str, accepted: str) -> None:
    document = problem_of(values).document
    assert document.field == field
    assert accepted in (document.accepted or "")
    assert document.status == 422
    assert not any(
        word in document.model_dump_json() for word in ("dictionary", "instance of", "Field required", "Input should")
    )


@pytest.mark.parametrize(
    ("path", "body", "field", "accepted"),
    [
        ("searches", {"base": MODEL, "constraints": {"foo": 1}}, "constraints.foo", "one of verdict, hours"),
        ("searches", {"base": MODEL, "free": {"run.method": []}}, "free.run.method", "a list of 1 to 512 values"),
        ("searches", {"base": MODEL, "limit": 0}, "limit", "an integer from 1 to 100"),
        ("searches", {"base": MODEL, "foo": 1}, "foo", "one of base, free, constraints, limit"),
        ("searches", {"base": {**MODEL, "run": {"method": "x"}}}, "base.run.method", "one of full, lora"),
        ("searches", {}, "base", "an estimate's body"),
        ("searches", None, "body", "an object with base, free"),
        ("jobs", {}, "kind", "measure or calibrate"),
        ("jobs", {"kind": "measure", "deadline_seconds": 0}, "deadline_seconds", "a number above 0 and up to 3600"),
        ("jobs", {"kind": "measure", "depth": "z"}, "depth", "an integer or auto"),
        ("reports", {"requests": [], "foo": 1}, "foo", "one of title, notes, requests, baseline"),
        (
            "differences",
            {"request": {**MODEL, "run": {"lora": 3}}, "observed": ""},
            "request.run.lora",
            "an object with rank",
        ),
        ("estimates", None, "body", "an estimate's body: an object with model, machine, run"),
        ("estimates", {**MODEL, "run": {"lora": {"dropout": 3}}}, "run.lora.dropout", "a number from 0 to below 1"),
    ],
)
def test_every_body_says_what_its_own_fields_take(
    client: TestClient, path: str, body: Any, field: str, accepted: str
) -> None:
    answer = client.post(f"/api/v1/{path}", content=json.dumps(body), headers={"content-type": "application/json"})
    document = answer.json()
    assert (answer.status_code, document["code"], document["field"]) == (422, "invalid_request", field)
    assert document["accepted"].startswith(accepted)
    assert "None" not in document["detail"]


def test_the_plans_of_a_report_are_counted_as_its_contract_has_it() -> None:
    with pytest.raises(Problem) as caught:
        parse_report({})
    assert caught.value.document.accepted == f"a list of {MINIMUM_PLANS} to {MAXIMUM_PLANS} plans"


@pytest.mark.parametrize(
    ("query", "accepted"),
    [("limit=0", "an integer from 1 to 200"), ("q=" + "a" * 300, "a text of at most 200 characters")],
)
def test_a_parameter_of_the_address_has_both_its_ends(client: TestClient, query: str, accepted: str) -> None:
    assert client.get(f"/api/v1/devices?{query}").json()["accepted"] == accepted


def test_a_method_that_is_not_answered_names_those_that_are(client: TestClient) -> None:
    document = client.get("/api/v1/estimates").json()
    assert (document["code"], document["value"], document["accepted"]) == ("method_not_allowed", "GET", "POST")


def test_an_offer_that_nobody_knows_has_a_code_of_its_own(client: TestClient) -> None:
    asked = {"model": {"id": "meta-llama/Llama-3.1-8B"}, "machine": {"offer": "kaggle-gpu-t4-x3"}}
    answer = client.post("/api/v1/estimates", json=asked)
    document = answer.json()
    assert (answer.status_code, document["code"], document["field"]) == (422, "unknown_offer", "machine.offer")
    assert document["value"] == "kaggle-gpu-t4-x3"
    assert "kaggle-gpu-t4-x2" in document["accepted"]


def test_a_union_is_reduced_to_the_branch_that_was_meant() -> None:
    problem = problem_of({**MODEL, "machine": {"device": {"memory_gib": 1, "tflops_float32": 0}}})
    assert {item.field for item in problem.violations} == {
        "machine.device.memory_bandwidth_gb_s",
        "machine.device.tflops_float32",
    }


def test_several_errors_are_all_listed() -> None:
    problem = problem_of({**MODEL, "run": {"method": "x", "loss": "y"}})
    assert len(problem.document.errors) == 2
    assert "1 more" in problem.document.detail


@pytest.mark.parametrize(
    "value",
    [2**20_000, "x" * 10_000, "\ud800", {"a": 1}, [1], float("nan"), None, True],
    ids=["huge", "long", "surrogate", "object", "list", "nan", "none", "flag"],
)
def test_values_are_shortened_to_what_json_holds(value: Any) -> None:
    assert len(Problem("invalid_request", "d", value=value).json()) < 600
    assert shorten(shorten(value)) == shorten(value)


def test_a_code_of_the_engine_keeps_its_name_and_has_a_help_link() -> None:
    document = Problem("contradiction_of_the_engine", "d").document
    assert document.code == "contradiction_of_the_engine"
    assert document.help == "/errors#invalid_request"


def test_every_kind_says_what_to_do() -> None:
    assert all(kind.remedy and 400 <= kind.status < 600 for kind in KINDS.values())
