"""What a traced step must show, case by case."""

from dataclasses import replace
from typing import Any

import pytest

from planner.verify.experts import balanced_rows
from planner.verify.settings import TraceSettings
from planner.verify.timeline import TERMS, Trace
from planner.verify.trace import trace_step
from tests.planner.verify import tiny

pytestmark = pytest.mark.slow


SMALL = TraceSettings(sequence_length=64, micro_batch_size=2, lora_rank=4)


def parameter_bytes(trace: Trace, width: int) -> int:
    return sum(r.bytes for r in trace.records if r.op == "load" and r.label == "weights" and r.dtype != "float32") * (
        width // 2
    )


def has_shape(trace: Trace, *shape: int) -> bool:
    return any(record.shape == shape for record in trace.records)


@pytest.mark.parametrize("method", ["full", "lora", "freeze"])
@pytest.mark.parametrize("checkpointing", ["none", "full"])
def test_terms_add_up_to_the_live_bytes(method: Any, checkpointing: Any) -> None:
    trace = trace_step(
        tiny.LLAMA, replace(SMALL, method=method, activation_checkpointing=checkpointing, trainable_layers=1)
    )
    for instant in trace.moment_peaks().values():
        terms = trace.bytes_by_term(instant)
        assert tuple(terms) == TERMS
        assert sum(terms.values()) == trace.live_bytes[instant]
        assert sum(group.bytes for group in trace.live_at(instant)) == trace.live_bytes[instant]


def test_states_of_adamw_are_twice_the_weights_and_live_in_the_second_step() -> None:
    trace = trace_step(tiny.LLAMA, SMALL)
    at_peak = trace.bytes_by_term(trace.moment_peaks()["forward"])
    weights = parameter_bytes(trace, 2)
    assert at_peak["optimizer_states"] == 2 * weights
    assert at_peak["gradients"] == 0
    assert trace.bytes_by_term(trace.moment_peaks()["optimizer_step"])["gradients"] == weights


def test_the_step_ends_as_it_began() -> None:
    trace = trace_step(tiny.LLAMA, SMALL)
    batch = 2 * 2 * 64 * 8
    assert abs(trace.live_bytes[trace.last - 1] - trace.live_bytes[trace.first - 1]) <= batch


def test_foreach_copies_the_larger_group_and_fused_copies_nothing() -> None:
    copies = {
        impl: trace_step(tiny.LLAMA, replace(SMALL, optimizer_impl=impl)).moments["optimizer_step"]
        for impl in ("foreach", "fused", "for_loop")
    }
    assert copies["foreach"] > copies["for_loop"] > copies["fused"]


def test_logits_take_twelve_bytes_an_element_when_the_loss_goes_backward() -> None:
    trace = trace_step(tiny.LLAMA, SMALL)
    highest = max(trace.bytes_by_term(instant)["logits_and_loss"] for instant in range(trace.first, trace.last))
    assert highest == 12 * 64 * 2 * tiny.VOCABULARY


def test_unpacked_rows_make_no_mask_and_grouped_keys_stay_grouped() -> None:
    trace = trace_step(tiny.LLAMA, SMALL)
    assert not has_shape(trace, 1, 1, 64, 64)
    assert not has_shape(trace, 2, 2, 2, 64, 16)
    assert any(record.op == "_scaled_dot_product_flash_attention" for record in trace.records)


def test_float32_with_grouped_keys_falls_back_to_the_math_kernel() -> None:
    trace = trace_step(tiny.LLAMA, replace(SMALL, weights_dtype="float32", compute_dtype="float32"))
    assert has_shape(trace, 2, 4, 64, 64)


def test_a_device_without_a_fused_backward_keeps_scores() -> None:
    assert has_shape(trace_step(tiny.LLAMA, replace(SMALL, fused_attention=False)), 2, 4, 64, 64)


def test_eager_attention_keeps_scores() -> None:
    assert has_shape(trace_step(tiny.LLAMA, replace(SMALL, attention="eager")), 2, 4, 64, 64)


def test_flash_attention_keeps_no_scores() -> None:
    trace = trace_step(tiny.QWEN3, replace(SMALL, attention="flash_attention"))
    assert not has_shape(trace, 2, 4, 64, 64)


def test_flash_attention_pads_the_narrower_values_of_latent_attention() -> None:
    trace = trace_step(tiny.DEEPSEEK_V3, replace(SMALL, attention="flash_attention"))
    assert any(record.op == "constant_pad_nd" and record.shape == (2, 4, 64, 24) for record in trace.records)


def test_adapters_in_float32_cast_their_inputs() -> None:
    at = "activations"
    wide = trace_step(tiny.LLAMA, replace(SMALL, method="lora", rounding_bytes=1))
    narrow = trace_step(tiny.LLAMA, replace(SMALL, method="lora", rounding_bytes=1, adapter_dtype="bfloat16"))
    loss = wide.moment_peaks()["loss"], narrow.moment_peaks()["loss"]
    assert wide.bytes_by_term(loss[0])[at] > narrow.bytes_by_term(loss[1])[at]
    assert wide.bytes_by_term(loss[0])["adapters"] == 2 * narrow.bytes_by_term(loss[1])["adapters"]


def test_checkpointing_keeps_block_inputs_only() -> None:
    kept = trace_step(tiny.LLAMA, SMALL)
    recomputed = trace_step(tiny.LLAMA, replace(SMALL, activation_checkpointing="full"))
    loss = kept.moment_peaks()["loss"], recomputed.moment_peaks()["loss"]
    assert recomputed.bytes_by_term(loss[1])["activations"] < kept.bytes_by_term(loss[0])["activations"] / 3


def test_a_second_micro_batch_finds_gradients_in_place() -> None:
    trace = trace_step(tiny.LLAMA, replace(SMALL, gradient_accumulation_steps=2))
    assert trace.bytes_by_term(trace.moment_peaks()["forward"])["gradients"] == parameter_bytes(trace, 2)


def test_autocast_copies_of_weights_are_temporaries() -> None:
    trace = trace_step(tiny.LLAMA, replace(SMALL, weights_dtype="float32"))
    copies = [r for r in trace.records if r.note == "cast of a parameter" and r.moment == "forward"]
    assert copies
    assert {record.label for record in copies} == {"temporaries"}


def test_frozen_blocks_have_no_gradients() -> None:
    trace = trace_step(tiny.LLAMA, replace(SMALL, method="freeze", trainable_layers=1))
    full = trace_step(tiny.LLAMA, SMALL)
    instant, full_instant = trace.moment_peaks()["optimizer_step"], full.moment_peaks()["optimizer_step"]
    assert 0 < trace.bytes_by_term(instant)["gradients"] < full.bytes_by_term(full_instant)["gradients"] / 2


@pytest.mark.parametrize("optimizer", ["sgd", "sgd_momentum", "adafactor", "muon"])
def test_states_differ_by_optimizer(optimizer: Any) -> None:
    trace = trace_step(tiny.LLAMA, replace(SMALL, optimizer=optimizer))
    weights = parameter_bytes(trace, 2)
    states = trace.bytes_by_term(trace.moment_peaks()["forward"])["optimizer_states"]
    embeddings = 2 * 2 * tiny.VOCABULARY * 64
    norms = 5 * 512
    expected = {"sgd": 0, "sgd_momentum": weights, "muon": weights + embeddings + norms}
    assert states == expected.get(optimizer, states)
    if optimizer == "adafactor":
        assert 0 < states < weights / 2


@pytest.mark.parametrize(
    "config", [tiny.MIXTRAL, tiny.QWEN3_MOE, tiny.OLMOE, tiny.GPT_OSS, tiny.DEEPSEEK_V3, tiny.LONGCAT, tiny.GEMMA2]
)
def test_other_families_trace(config: dict[str, Any]) -> None:
    trace = trace_step(config, SMALL)
    assert trace.layers == 2
    assert sum(trace.bytes_by_term_at_peak.values()) == trace.peak_bytes


def test_latent_attention_takes_the_memory_efficient_kernel() -> None:
    trace = trace_step(tiny.DEEPSEEK_V3, SMALL)
    assert any(record.op == "_scaled_dot_product_efficient_attention" for record in trace.records)


def test_dropout_keeps_a_boolean_mask() -> None:
    trace = trace_step(tiny.LLAMA, replace(SMALL, method="lora", lora_dropout=0.1))
    assert any(record.op == "native_dropout" and record.dtype == "bool" for record in trace.records)


def test_dora_traces() -> None:
    assert trace_step(tiny.LLAMA, replace(SMALL, method="dora")).peak_bytes > 0


def test_a_balanced_load_shares_all_slots() -> None:
    assert balanced_rows(7, 3) == [3, 2, 2]
    assert balanced_rows(2, 3) == [1, 1]


def test_events_replay_to_the_curve() -> None:
    trace = trace_step(tiny.LLAMA, SMALL)
    live = 0
    for event in trace.events:
        live += event.bytes
        if event.instant >= trace.first:
            assert live == trace.live_bytes[event.instant]
