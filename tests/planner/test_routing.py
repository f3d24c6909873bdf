"""The stated load of routed experts: what it may be, what it changes, and what is said of it."""

from __future__ import annotations

from typing import Any

import pytest

from planner.catalog.models import model
from planner.contract import Answer, EstimateRequest, Moment
from planner.errors import PlanError
from planner.estimate import estimate
from planner.hardware import resolve_machine

MIXTRAL, DBRX, LLAMA = "mistralai/Mixtral-8x7B-v0.1", "databricks/dbrx-base", "meta-llama/Llama-3.1-8B"


def ask(model_id: str, **run: Any) -> Answer:
    values = {"model": {"id": model_id}, "machine": {"device": "nvidia-b200-180gb"}, "run": run}
    request = EstimateRequest.model_validate(values)
    machine = resolve_machine(request.machine)
    return estimate(request, config=model(model_id).config, machine=machine, advice=False)


def peak(answer: Answer) -> int:
    assert answer.memory is not None
    return answer.memory.device.peak_allocated_bytes


def _moments(answer: Answer) -> list[Moment]:
    assert answer.memory is not None
    return answer.memory.device.moments


def test_balance_is_assumed_of_models_with_routed_experts_only() -> None:
    assert ask(MIXTRAL).assumed["run.expert_imbalance"] == 1.0
    assert "run.expert_imbalance" not in ask(MIXTRAL, expert_imbalance=1).assumed
    assert "run.expert_imbalance" not in ask(LLAMA).assumed


def test_a_grouped_product_has_a_row_for_each_slot_whichever_its_expert() -> None:
    skewed = ask(MIXTRAL, method="full", expert_imbalance=4)
    assert peak(skewed) == peak(ask(MIXTRAL, method="full"))
    assert any("one grouped product" in warning for warning in skewed.warnings)


def test_a_loop_holds_more_while_the_busiest_expert_runs() -> None:
    run: dict[str, Any] = {"method": "freeze", "activation_checkpointing": "full", "sequence_length": 8192}
    even, skewed = ask(DBRX, **run), ask(DBRX, expert_imbalance=4, **run)
    backward = [next(m for m in _moments(answer) if m.name == "backward") for answer in (even, skewed)]
    assert backward[0].allocated_bytes < backward[1].allocated_bytes
    assert any("4 times the mean" in warning for warning in skewed.warnings)
    assert not any("mean" in warning for warning in even.warnings)


@pytest.mark.parametrize(("model_id", "factor", "accepted"), [(MIXTRAL, 4.5, "1 to 4"), (LLAMA, 2, "1")])
def test_what_no_routing_can_be_is_refused(model_id: str, factor: float, accepted: str) -> None:
    with pytest.raises(PlanError) as caught:
        ask(model_id, expert_imbalance=factor)
    assert (caught.value.field, caught.value.value, caught.value.accepted) == (
        "run.expert_imbalance", factor, accepted
    )  # fmt: skip
    assert f"is {factor:g}" in str(caught.value)
