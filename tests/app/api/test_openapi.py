from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance
from starlette.testclient import TestClient

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
