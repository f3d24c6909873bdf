"""Partial rows bound a prediction: every value of what is unknown is tried."""

from __future__ import annotations

from typing import Any

import pytest

from planner.accuracy.bounds import CHOICES, Bound, bounds_of
from planner.accuracy.prediction import predict
from planner.corpus import MeasuredRun, measured_runs


def _run(**changes: Any) -> MeasuredRun:
    values: dict[str, Any] = {
        "id": "one",
        "publisher": "somebody",
        "source": "a page",
        "status": "verified",
        "completeness": "partial",
        "unknown": ["run.activation_checkpointing"],
        "request": {
            "model": {"id": "Qwen/Qwen3-4B"},
            "machine": {"device": "nvidia-rtx-4090-24gb"},
            "run": {"method": "lora", "sequence_length": 2048, "micro_batch_size": 1, "framework": "transformers"},
        },
        "peaks": [{"kind": "allocated", "bytes": 2**34}],
    }
    return MeasuredRun.model_validate(values | changes)


def _only(run: MeasuredRun) -> Bound:
    (found,) = bounds_of([predict(run)])
    return found


def test_the_ends_are_the_least_and_the_largest_over_the_unknown_setting() -> None:
    found = _only(_run())
    sizes = list[int]()
    for choice in CHOICES["run.activation_checkpointing"]:
        run = _run()
        settings = run.request.run.model_copy(update={"activation_checkpointing": choice})
        changed = predict(run.model_copy(update={"request": run.request.model_copy(update={"run": settings})}))
        assert changed.memory is not None
        sizes.append(changed.memory.peak_allocated_bytes)
    assert (found.least, found.largest, found.tried) == (min(sizes), max(sizes), 3)


@pytest.mark.parametrize(("kind", "is_between"), [(None, False), ("at_least", True), ("at_most", False)])
def test_a_row_with_one_open_side_is_held_to_the_other(kind: str | None, is_between: bool) -> None:
    tiny = [{"kind": "allocated", "bytes": 2**20}]
    assert _only(_run(bound=kind, peaks=tiny)).is_between is is_between


def test_a_number_of_devices_takes_its_ranks_along() -> None:
    request = _run().request.model_dump(mode="json")
    request["run"] |= {"method": "full", "parallelism": {"data": 2, "zero_stage": 3}}
    request["machine"]["device_count"] = 2
    found = _only(_run(unknown=["machine.device_count"], request=request))
    assert found.tried > 3
    assert found.least < found.largest


def test_whole_runs_have_no_bounds() -> None:
    assert bounds_of([predict(_run(completeness="full", unknown=[]))]) == []


def test_every_unknown_field_of_the_catalogue_has_choices() -> None:
    assert {field for run in measured_runs() for field in run.unknown} <= CHOICES.keys()
