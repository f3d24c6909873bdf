"""The answer as a whole: sums, verdicts, moments, what is refused and how."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.catalog.models import model
from planner.contract import Answer, Terms
from planner.errors import PlanError
from planner.estimate import canonical_sha256, sha256_of
from tests.planner.asking import (
    H100,
    LLAMA_8B,
    LONGCAT,
    QWEN_MOE,
    RTX_4090,
    TINY,
    ask,
    moments,
    peak,
    required,
    terms,
)

OUTSIDE = {"fragmentation", "outside_allocator"}
RUNS = st.fixed_dictionaries(
    {
        "method": st.sampled_from(["full", "lora", "qlora", "dora", "freeze"]),
        "optimizer": st.sampled_from(["adamw", "adamw_8bit", "paged_adamw_8bit", "adafactor", "sgd", "lion", "muon"]),
        "activation_checkpointing": st.sampled_from(["none", "full", "selective_op", "selective_attention"]),
        "attention": st.sampled_from(["eager", "sdpa"]),
        "loss": st.sampled_from(["full_logits", "chunked", "fused_linear"]),
        "sequence_length": st.integers(1, 4096),
        "micro_batch_size": st.integers(1, 8),
        "gradient_accumulation_steps": st.integers(1, 3),
    }
)


def check_sums(given_answer: Answer) -> None:
    assert given_answer.memory is not None
    device = given_answer.memory.device
    by_term = device.terms.model_dump()
    assert sum(size for term, size in by_term.items() if term not in OUTSIDE) == device.peak_allocated_bytes
    assert device.peak_reserved_bytes == device.peak_allocated_bytes + by_term["fragmentation"]
    assert device.peak_process_bytes == device.peak_reserved_bytes + by_term["outside_allocator"]
    assert device.headroom_bytes == device.usable_bytes - device.required_bytes
    assert device.usable_bytes == device.total_bytes - device.system_reserved_bytes - device.in_use_bytes
    assert device.required_bytes >= device.peak_process_bytes
    by_moment = {moment.name: moment.allocated_bytes for moment in device.moments}
    assert by_moment[device.peak_moment] == device.peak_allocated_bytes
    assert by_moment[device.highest_moment] == max(by_moment.values())
    assert sum(row.bytes for row in device.ledger) == device.peak_process_bytes


@settings(max_examples=60)
@given(run=RUNS)
def test_terms_add_up_to_the_byte(run: dict[str, Any]) -> None:
    check_sums(ask(TINY, RTX_4090, **run))


def test_the_ten_terms_and_two_more_are_the_contracts() -> None:
    assert set(Terms.model_fields) == set(terms(ask()))


def test_every_moment_of_the_contract_is_listed() -> None:
    expected = {"load", "forward", "loss", "backward", "optimizer_step", "evaluation", "save"}
    assert set(moments(ask())) == expected


@settings(max_examples=30)
@given(run=RUNS, factor=st.integers(2, 4))
def test_more_tokens_never_need_less(run: dict[str, Any], factor: int) -> None:
    longer: dict[str, Any] = {**run, "sequence_length": min(4096, run["sequence_length"] * factor)}
    larger: dict[str, Any] = {**run, "micro_batch_size": run["micro_batch_size"] * factor}
    assert required(ask(TINY, RTX_4090, **longer)) >= required(ask(TINY, RTX_4090, **run))
    assert required(ask(TINY, RTX_4090, **larger)) >= required(ask(TINY, RTX_4090, **run))


def test_all_verdicts_are_reachable() -> None:
    assert ask(LLAMA_8B, RTX_4090, method="qlora").verdict == "fits"
    assert ask(LLAMA_8B, RTX_4090, method="full").verdict == "does_not_fit"
    assert ask(LLAMA_8B, RTX_4090, framework="unsloth").verdict == "not_modelled"
    tight: dict[str, Any] = {"device_memory_gib": required(ask(LLAMA_8B, RTX_4090, method="qlora")) / 2**30 * 1.05}
    assert ask(LLAMA_8B, RTX_4090, method="qlora", machine=tight).verdict == "tight"
    assert ask("Qwen/Qwen2.5-0.5B", "google-tpu-v5e-chip", method="qlora").verdict == "unsupported"


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"compile": True}, "compile_not_modelled"),
        ({"compute_dtype": "float8"}, "float8_not_modelled"),
        ({"weights_dtype": "float8", "method": "full"}, "float8_not_modelled"),
    ],
)
def test_compiled_and_float8_runs_are_refused_by_name(settings: dict[str, Any], code: str) -> None:
    answer = ask(LLAMA_8B, RTX_4090, **settings)
    assert answer.verdict == "not_modelled"
    assert [reason.code for reason in answer.reasons] == [code]


def test_a_smaller_machine_never_gets_a_better_verdict() -> None:
    order = ["fits", "tight", "does_not_fit"]
    verdicts = [
        order.index(ask(LLAMA_8B, RTX_4090, method="qlora", machine={"device_memory_gib": gib}).verdict)
        for gib in (48, 24, 12, 11, 10, 9, 8, 4)
    ]
    assert verdicts == sorted(verdicts)


def test_longcat_is_a_clear_no() -> None:
    given_answer = ask(LONGCAT, RTX_4090, method="qlora", machine={"host_memory_gib": 64}, advice=True)
    assert given_answer.verdict == "does_not_fit"
    assert given_answer.parameters is not None
    assert given_answer.parameters.total == 560_664_958_976
    assert given_answer.summary.startswith("No:")
    assert any("zero experts" in warning for warning in given_answer.warnings)
    assert any(lever.makes_it_fit and "model" in lever.change for lever in given_answer.advice)


def test_disk_too_small_is_a_no() -> None:
    given_answer = ask("Qwen/Qwen2.5-0.5B", RTX_4090, machine={"disk_free_gib": 0.5})
    assert given_answer.verdict == "does_not_fit"
    assert [reason.code for reason in given_answer.reasons] == ["disk_space"]


def test_all_causes_stand_in_reasons() -> None:
    given_answer = ask(LLAMA_8B, RTX_4090, method="full", machine={"disk_free_gib": 1, "host_memory_gib": 4})
    assert {"device_memory", "host_memory", "disk_space"} <= {reason.code for reason in given_answer.reasons}


def test_what_is_not_modelled_still_says_how_large_the_model_is() -> None:
    given_answer = ask(LLAMA_8B, H100, parallelism={"tensor": 2, "data": 1}, machine={"device_count": 2})
    assert given_answer.verdict == "not_modelled"
    assert given_answer.memory is None
    assert given_answer.parameters is not None
    assert given_answer.reasons[0].field == "run.parallelism.tensor"


def test_an_unknown_model_type_is_not_modelled() -> None:
    given_answer = ask({"model_type": "perpetual_motion", "hidden_size": 4})
    assert given_answer.verdict == "not_modelled"
    assert "perpetual_motion" in given_answer.summary


@pytest.mark.parametrize(
    ("run", "field"),
    [
        ({"method": "full", "gradient_dtype": "float32", "weights_dtype": "bfloat16"}, "run.gradient_dtype"),
        ({"method": "full", "master_weights": True}, "run.master_weights"),
        ({"method": "full", "optimizer_state_dtype": "float32"}, "run.optimizer_state_dtype"),
        ({"parallelism": {"data": 4}}, "run.parallelism.data"),
        ({"method": "freeze", "freeze": {"trainable_layers": 99}}, "run.freeze.trainable_layers"),
    ],
)
def test_a_contradiction_names_the_field_and_what_is_accepted(run: dict[str, Any], field: str) -> None:
    with pytest.raises(PlanError) as caught:
        ask(LLAMA_8B, H100, **run)
    assert caught.value.field == field
    assert caught.value.accepted


def test_each_default_comes_back_in_assumed() -> None:
    assumed = ask(LLAMA_8B).assumed
    for name in ("method", "optimizer", "optimizer_impl", "sequence_length", "micro_batch_size", "attention", "loss"):
        assert f"run.{name}" in assumed
    assert assumed["run.method"] == "lora"
    assert assumed["run.sequence_length"] == 2048


def test_the_sequence_defaults_to_the_models_maximum_when_that_is_shorter() -> None:
    assert ask("openai-community/gpt2").assumed["run.sequence_length"] == 1024


def test_full_float16_training_keeps_float32_weights() -> None:
    assumed = ask("Qwen/Qwen2.5-0.5B", "nvidia-t4-16gb", method="full").assumed
    assert (assumed["run.weights_dtype"], assumed["run.compute_dtype"]) == ("float32", "float16")


def test_lora_on_a_card_without_bfloat16_computes_in_float16() -> None:
    assert ask("Qwen/Qwen2.5-0.5B", "nvidia-t4-16gb", method="lora").assumed["run.compute_dtype"] == "float16"


def test_advice_is_left_out_on_request() -> None:
    assert ask(LLAMA_8B, RTX_4090, method="full").advice == []


def test_for_a_no_the_first_advice_makes_it_a_yes_and_really_does() -> None:
    from planner.advice import merge_patch
    from planner.contract import EstimateRequest
    from tests.planner.asking import answer, request

    asked = request(LLAMA_8B, RTX_4090, method="full")
    lever = answer(asked, advice=True).advice[0]
    assert lever.makes_it_fit
    changed = merge_patch(asked.model_dump(mode="json", exclude_unset=True), lever.change)
    assert answer(EstimateRequest.model_validate(changed)).verdict in {"fits", "tight"}


def test_a_lever_that_saves_nothing_says_so() -> None:
    levers = ask(TINY, H100, method="full", sequence_length=16, advice=True).advice
    assert any(lever.bytes_saved <= 0 and lever.why.startswith("Saves nothing here") for lever in levers)


def test_experts_stay_in_16_bit_under_qlora() -> None:
    given_answer = ask(QWEN_MOE, RTX_4090, method="qlora")
    assert given_answer.verdict == "does_not_fit"
    assert given_answer.parameters is not None
    assert terms(given_answer)["weights"] > 2 * given_answer.parameters.by_component["experts"]


def test_zero_3_splits_states_over_the_devices() -> None:
    one = ask(LLAMA_8B, H100, method="full")
    eight = ask(LLAMA_8B, H100, method="full", machine={"device_count": 8}, parallelism={"zero_stage": 3})
    assert terms(eight)["optimizer_states"] * 8 == pytest.approx(terms(one)["optimizer_states"], rel=0.001)
    assert terms(eight)["communication"] > 0
    assert peak(eight) < peak(one)


def test_a_catalogue_configuration_and_its_copy_have_one_identity() -> None:
    config = model("meta-llama/Llama-3.1-8B").config
    assert sha256_of(config) == sha256_of(config) == sha256_of(dict(config)) == canonical_sha256(config)
    assert sha256_of({**config, "vocab_size": 7}) != sha256_of(config)
