from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance
from starlette.testclient import TestClient

from app.api.examples import BODIES, PARAMETERS

HEADERS = {"host": "localhost"}


def test_the_document_describes_what_is_there(client: TestClient) -> None:
    document = client.get("/api/v1/openapi.json").json()
    assert set(document["paths"]) == {
        "/livez",
        "/readyz",
        "/metrics",
        "/api/v1/estimates",
        "/api/v1/estimates/batch",
        "/api/v1/searches",
        "/api/v1/verifications",
        "/api/v1/differences",
        "/api/v1/reports",
        "/api/v1/reports/{report_id}",
        "/api/v1/models",
        "/api/v1/models/{model_id}",
        "/api/v1/adapters",
        "/api/v1/devices",
        "/api/v1/devices/{device_id}",
        "/api/v1/offers",
        "/api/v1/offers/{offer_id}",
        "/api/v1/software",
        "/api/v1/software/facts",
        "/api/v1/jobs",
        "/api/v1/jobs/{job_id}",
        "/api/v1/jobs/{job_id}/events",
        "/api/v1/calibrations",
        "/api/v1/calibrations/{calibration_id}",
        "/api/v1/workers",
    }
    estimate = document["paths"]["/api/v1/estimates"]["post"]
    assert estimate["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/EstimateRequest")
    assert estimate["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].endswith("/Answer")
    assert "application/problem+json" in estimate["responses"]["422"]["content"]
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_every_reference_is_defined(client: TestClient) -> None:
    document = client.get("/api/v1/openapi.json").json()
    names = set(document["components"]["schemas"])
    assert {reference.rsplit("/", 1)[1] for reference in _references(document)} <= names


def _references(tree: Any) -> set[str]:
    if isinstance(tree, dict):
        own = {tree["$ref"]} if isinstance(tree.get("$ref"), str) else set[str]()
        return own.union(*(_references(value) for value in tree.values()))
    if isinstance(tree, list):
        return set[str]().union(*(_references(value) for value in tree))
    return set()


def _operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(method, path, described) for path, each in document["paths"].items() for method, described in each.items()]


def test_every_operation_shows_an_example(client: TestClient) -> None:
    document = client.get("/api/v1/openapi.json").json()
    for method, path, operation in _operations(document):
        bodies = list(operation.get("requestBody", {}).get("content", {}).values())
        parameters = operation.get("parameters", [])
        answer = operation["responses"].get("200", {}).get("content", {}).values()
        shown = [*bodies, *parameters] or list(answer)
        missing = [part.get("name", "body") for part in shown if "example" not in str(part)]
        assert shown, (method, path)
        assert missing == [], (method, path)
    assert client.get("/api/v1/openapi.json").json() == document


@pytest.mark.parametrize("key", [key for key in BODIES if "jobs" not in key[1]])
def test_an_example_is_answered(real_client: TestClient, key: tuple[str, str]) -> None:
    assert real_client.request(key[0], key[1], json=BODIES[key]).status_code == 200


def test_the_examples_of_parameters_are_of_this_catalogue(real_client: TestClient) -> None:
    for kind in ("models", "devices", "offers"):
        found = real_client.get(f"/api/v1/{kind}/{PARAMETERS[kind[:-1] + '_id']}")
        assert found.status_code == 200


@pytest.mark.slow
def test_every_generated_request_is_answered_as_the_document_says(application: FastAPI) -> None:
    schema: Any = schemathesis.openapi.from_asgi("/api/v1/openapi.json", application, headers=HEADERS)
    for result in schema.get_all_operations():
        _try(result.ok())


def _try(operation: Any) -> None:
    @settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much], database=None)
    @given(case=operation.as_strategy())
    def call(case: Any) -> None:
        # A body that fits the schema may still be refused: "exactly one of id and config" is no JSON Schema of ours.
        case.call_and_validate(headers=HEADERS, excluded_checks=[positive_data_acceptance])

    call()
