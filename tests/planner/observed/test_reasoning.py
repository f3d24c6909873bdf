from __future__ import annotations

from typing import Any

import pytest

from planner.advice import merge_patch
from planner.architecture.registry import read_config
from planner.catalog.models import model
from planner.contract import EstimateRequest
from planner.evaluation import evaluate
from planner.hardware import resolve_machine
from planner.observed import Explanation, Observation, explain, read
from planner.units import GIB, MIB
from tests.planner.asking import LLAMA_8B, RTX_4090, request
from tests.planner.observed import texts

SPEC = read_config(model(LLAMA_8B).config)


def explained(observation: Observation, **run: Any) -> Explanation:
    asked = request(LLAMA_8B, RTX_4090, **{"method": "qlora", "micro_batch_size": 2, **run})
    return explain(asked, SPEC, resolve_machine(asked.machine), observation)


def ledger_of(**run: Any) -> Any:
    asked = request(LLAMA_8B, RTX_4090, **{"method": "qlora", "micro_batch_size": 2, **run})
    return evaluate(asked, SPEC, resolve_machine(asked.machine)).ledger


def seen(**figures: Any) -> Observation:
    return Observation(sources=("nvidia-smi",), **figures)


def test_what_is_as_estimated_is_called_so_and_accuses_nothing() -> None:
    ledger = ledger_of()
    found = explained(
        seen(
            allocated=ledger.peak_allocated_bytes,
            reserved=ledger.peak_reserved_bytes,
            process=ledger.peak_process_bytes,
            others=0,
        )
    )
    assert [finding.agrees for finding in found.findings] == [True] * 4
    assert found.suspects == ()


@pytest.mark.parametrize(
    "truth",
    [
        {"activation_checkpointing": "none"},
        {"sequence_length": 4096},
        {"micro_batch_size": 8},
        {"method": "lora"},
        {"sequence_length": 512},
    ],
)
def test_the_setting_that_differs_in_truth_is_the_first_suspect(truth: dict[str, Any]) -> None:
    found = explained(seen(allocated=ledger_of(**truth).peak_allocated_bytes))
    first = found.suspects[0]
    assert abs(first.remaining_bytes) < 0.02 * found.suspects[0].predicted_bytes
    asked = request(LLAMA_8B, RTX_4090, method="qlora", micro_batch_size=2)
    changed = EstimateRequest.model_validate(
        merge_patch(asked.model_dump(mode="json", exclude_unset=True), first.change)
    )
    assert (
        evaluate(changed, SPEC, resolve_machine(changed.machine)).ledger.peak_allocated_bytes == first.predicted_bytes
    )


def test_an_evaluation_with_the_trainers_own_batch_is_suspected() -> None:
    wide = ledger_of(micro_batch_size=8)
    found = explained(seen(allocated=wide.moments["evaluation"]))
    assert any(s.remaining_bytes == 0 and "evaluation" in s.title for s in found.suspects)


def test_an_error_below_the_estimate_was_to_be_expected() -> None:
    found = explained(read(texts.OUT_OF_MEMORY), micro_batch_size=8, sequence_length=4096)
    finding = found.findings[0]
    assert finding.at_least
    assert finding.agrees
    assert "to be expected" in finding.why


def test_an_error_above_the_estimate_accuses_a_setting() -> None:
    found = explained(read(texts.OUT_OF_MEMORY))
    assert found.measured_bytes == int(20.11 * GIB) + 2 * GIB
    assert not found.findings[0].agrees
    assert found.suspects


def test_other_processes_and_the_context_have_terms_of_their_own() -> None:
    found = explained(read(texts.SUMMARY + texts.NVIDIA_SMI))
    terms = {finding.term: finding for finding in found.findings}
    assert terms["others"].measured == 567 * MIB
    assert not terms["others"].agrees
    assert terms["fragmentation"].measured == (21_401 - 18_841) * MIB
    assert any("retried" in note for note in found.notes)


def test_another_device_than_the_plans_is_noticed() -> None:
    assert any("choose the device" in note for note in explained(read(texts.OLD_OUT_OF_MEMORY)).notes)


@pytest.mark.parametrize(("factor", "word"), [(0.1, "Faster"), (1.0, "Within"), (10.0, "Slower")])
def test_speed_is_held_against_the_range(factor: float, word: str) -> None:
    asked = request(LLAMA_8B, RTX_4090, method="qlora", micro_batch_size=2)
    time = evaluate(asked, SPEC, resolve_machine(asked.machine)).time
    assert time is not None
    found = explained(
        seen(seconds_per_step=time.step_seconds * factor, tokens_per_second=time.tokens_per_second / factor)
    )
    assert [finding.why.split()[0] for finding in found.findings] == [word, word]
