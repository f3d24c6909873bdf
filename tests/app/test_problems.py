from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from app.problems import KINDS, Problem, from_validation, shorten
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
