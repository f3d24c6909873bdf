"""Facts that made other tools wrong, each held by a test. The number in a name is the fact's number."""

from __future__ import annotations

from typing import Any

import pytest

from planner.architecture import count
from planner.architecture.registry import read_config
from planner.catalog.models import model
from planner.hardware import device, match_name
from tests.planner.asking import GIB, H100, LLAMA_8B, LONGCAT, MIB, QWEN_MOE, TINY, ask, moments, peak, terms

MISTRAL = {
    **TINY,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 32768,
}


def spec_total(model_id: str) -> int:
    return count.total(read_config(model(model_id).config))


def test_the_policy_is_named_and_decides_the_states() -> None:
    """States of Llama-3.1-8B were published from 56 to 150 GiB: the tools answer for different policies."""
    pure = terms(ask(LLAMA_8B, method="full", weights_dtype="bfloat16"))
    mixed = terms(ask(LLAMA_8B, method="full", weights_dtype="float32", compute_dtype="bfloat16"))
    parameters = 8_030_261_248
    assert pure["weights"] + pure["optimizer_states"] == pytest.approx(6 * parameters, rel=1e-4)
    assert mixed["weights"] + mixed["optimizer_states"] == pytest.approx(12 * parameters, rel=1e-4)


def test_01_an_untied_head_counts_and_a_tied_one_once() -> None:
    tied = count.total(read_config({**TINY, "tie_word_embeddings": True}))
    untied = count.total(read_config(TINY))
    assert untied - tied == TINY["vocab_size"] * TINY["hidden_size"]  # type: ignore[operator]
    assert spec_total(LLAMA_8B) == 8_030_261_248


def test_02_head_dim_is_read() -> None:
    wide = read_config({**TINY, "head_dim": 128})
    assert count.by_component(wide)["attention"] == 4 * count.by_component(read_config(TINY))["attention"]


def test_04_resident_is_not_active() -> None:
    spec = read_config(model(QWEN_MOE).config)
    assert count.active(spec) < count.total(spec) / 8


def test_08_longcat_is_560_billion_and_the_difference_is_shown() -> None:
    spec = read_config(model(LONGCAT).config)
    assert count.total(spec) == 560_664_958_976
    assert count.total(spec) + spec.phantoms == 741_053_585_408
    assert any(note.parameters == spec.phantoms for note in spec.notes)


def test_10_eight_bit_states_keep_embeddings_and_small_tensors_in_32_bit() -> None:
    """With the transformers Trainer: 8 B a parameter in the embedding, 2 B and scales elsewhere."""
    states = terms(ask(LLAMA_8B, method="full", optimizer="adamw_8bit"))["optimizer_states"]
    embedding = 128_256 * 4096
    rest = 8_030_261_248 - embedding
    assert states == pytest.approx(8 * embedding + rest * 2 * (1 + 4 / 256), rel=1e-3)


def test_10_paged_states_are_host_memory() -> None:
    given = ask(LLAMA_8B, method="full", optimizer="paged_adamw_8bit")
    assert given.memory is not None
    # The scales stay on the device: 8 bytes for 256 weights (bitsandbytes optim/optimizer.py, init_state).
    assert terms(given)["optimizer_states"] < 0.04 * given.memory.host.terms["optimizer_states"]
    assert given.memory.host.terms["optimizer_states"] > 16 * 10**9


def test_10_adafactor_factors_matrices_only() -> None:
    states = terms(ask(LLAMA_8B, method="full", optimizer="adafactor"))["optimizer_states"]
    assert states < 0.01 * terms(ask(LLAMA_8B, method="full"))["optimizer_states"]


def test_11_adapters_are_float32_and_their_inputs_are_copied() -> None:
    """PEFT casts the input of each adapter; with 16-bit adapters the copies vanish."""
    wide = ask(MISTRAL, method="lora", activation_checkpointing="none")
    narrow = ask(MISTRAL, method="lora", activation_checkpointing="none", lora={"adapter_dtype": "bfloat16"})
    assert terms(wide)["adapters"] == 2 * terms(narrow)["adapters"]
    assert peak(wide) - peak(narrow) > 0.15 * peak(wide)


@pytest.mark.parametrize(("double", "bytes_per_parameter"), [(False, 0.5625), (True, 0.5159)])
def test_12_nf4_is_not_half_a_byte(double: bool, bytes_per_parameter: float) -> None:
    found = terms(ask(LLAMA_8B, method="qlora", quantization={"scheme": "nf4", "double_quant": double}))
    linear = 32 * (2 * 4096 * 4096 + 2 * 1024 * 4096 + 3 * 4096 * 14336)
    kept = 2 * (8_030_261_248 - linear)
    quantised = found["weights"] + found["quantization_state"] - kept
    assert quantised / linear == pytest.approx(bytes_per_parameter, rel=2e-3)


def test_13_fused_experts_are_not_quantised() -> None:
    experts = count.by_component(read_config(model(QWEN_MOE).config))["experts"]
    assert terms(ask(QWEN_MOE, method="qlora"))["weights"] >= 2 * experts


def test_13_attention_targets_leave_the_experts_without_adapters() -> None:
    """All-linear reaches stacked experts in PEFT 0.21 for this family (ADR 7); naming modules does not."""
    everything = ask(QWEN_MOE, method="lora")
    attention = ask(QWEN_MOE, method="lora", lora={"target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"]})
    assert everything.parameters is not None
    assert attention.parameters is not None
    assert attention.parameters.trainable == 48 * 16 * (2 * (2048 + 4096) + 2 * (2048 + 512))
    assert everything.parameters.trainable > 50 * attention.parameters.trainable
    assert any("stacked experts" in warning for warning in everything.warnings)


def test_14_nf4_holds_a_dequantised_weight() -> None:
    run: dict[str, Any] = {"activation_checkpointing": "full", "loss": "fused_linear", "sequence_length": 512}
    plain = terms(ask(MISTRAL, method="lora", **run))["temporaries"]
    quantised = terms(ask(MISTRAL, method="qlora", **run))["temporaries"]
    assert quantised - plain > 50 * MIB


def test_15_foreach_adamw_copies_all_moments_and_can_be_the_peak() -> None:
    """Traced by others: 69,123 MiB in the optimizer step of a pure bfloat16 7.25 B Mistral at 1 x 2048."""
    run: dict[str, Any] = {"method": "full", "sequence_length": 2048, "activation_checkpointing": "none"}
    foreach = ask(MISTRAL, optimizer_impl="foreach", **run)
    assert foreach.memory is not None
    assert foreach.memory.device.peak_moment == "optimizer_step"
    assert peak(foreach) / MIB == pytest.approx(69_123, rel=0.002)
    fused = ask(MISTRAL, optimizer_impl="fused", **run)
    assert moments(foreach)["optimizer_step"] - moments(fused)["optimizer_step"] == pytest.approx(2 * 7.248e9, rel=0.01)


def test_16_logits_cost_12_bytes_an_element_in_transformers() -> None:
    found = terms(ask(LLAMA_8B, method="qlora", sequence_length=2048, micro_batch_size=1))
    assert found["logits_and_loss"] == pytest.approx(12 * 2048 * 128_256, rel=1e-4)
    fused = ask(LLAMA_8B, method="qlora", sequence_length=2048, loss="fused_linear")
    assert terms(fused)["logits_and_loss"] < 0.1 * found["logits_and_loss"]


def test_17_selective_means_two_different_things() -> None:
    sizes = {
        kind: moments(ask(MISTRAL, method="full", activation_checkpointing=kind))["forward"]
        for kind in ("none", "full", "selective_op", "selective_attention", "selective")
    }
    assert sizes["full"] < sizes["selective_op"] < sizes["none"]
    assert sizes["selective"] == sizes["selective_op"]
    assert sizes["selective_attention"] == sizes["none"]


def test_18_eager_attention_keeps_score_matrices() -> None:
    eager = peak(ask(MISTRAL, method="full", attention="eager"))
    assert eager - peak(ask(MISTRAL, method="full", attention="sdpa")) > 32 * 32 * 2048 * 2048 * 4


def test_18_a_device_without_fused_backward_falls_back_to_the_score_matrix() -> None:
    mac = ask(MISTRAL, "apple-m2-ultra", method="lora", machine={"device_memory_gib": 192})
    card = ask(MISTRAL, H100, method="lora")
    assert terms(mac)["activations"] > 1.5 * terms(card)["activations"]


def test_20_and_21_the_peak_is_a_moment_of_the_second_step() -> None:
    once = ask(MISTRAL, method="full", activation_checkpointing="full")
    twice = ask(MISTRAL, method="full", activation_checkpointing="full", gradient_accumulation_steps=2)
    assert moments(twice)["forward"] > moments(once)["forward"]
    assert terms(once)["optimizer_states"] > 0


def test_23_dropout_masks_are_kept() -> None:
    dropped = ask(MISTRAL, method="lora", lora={"dropout": 0.05})
    assert peak(dropped) > peak(ask(MISTRAL, method="lora"))


def test_23_a_classification_head_has_no_vocabulary() -> None:
    given = ask(LLAMA_8B, method="lora", objective="sequence_classification")
    assert terms(given)["logits_and_loss"] < MIB


def test_29_allocated_reserved_and_process_are_three_numbers() -> None:
    given = ask(LLAMA_8B).memory
    assert given is not None
    assert given.device.peak_allocated_bytes < given.device.peak_reserved_bytes < given.device.peak_process_bytes


@pytest.mark.parametrize(
    ("name", "mebibytes"),
    [("nvidia-h100-sxm-80gb", 81_559), ("nvidia-a100-sxm-80gb", 81_920), ("nvidia-t4-16gb", 15_360)],
)
def test_30_memory_is_what_the_driver_reports(name: str, mebibytes: int) -> None:
    assert device(name).memory_total_bytes == mebibytes * MIB


def test_30_a_t4_gives_a_framework_less_than_its_driver_reports() -> None:
    card = device("nvidia-t4-16gb")
    assert card.memory_total_bytes is not None
    assert card.memory_total_bytes - card.system_reserved_bytes <= 14_912 * MIB


def test_31_apple_caps_the_working_set() -> None:
    mac = ask("Qwen/Qwen2.5-0.5B", "apple-m2-max", machine={"host_memory_gib": 64}).memory
    assert mac is not None
    assert 0.6 * 64 * GIB < mac.device.usable_bytes < 0.85 * 64 * GIB
    assert mac.host.shared_with_device


def test_31_arc_limits_one_allocation() -> None:
    """Float32 logits of 8 x 2048 tokens over 152 k entries are one storage of 9 GiB."""
    given = ask("Qwen/Qwen2.5-0.5B", "intel-arc-a770-16gb", method="lora", micro_batch_size=8)
    assert "single_allocation" in {reason.code for reason in given.reasons}
    assert given.verdict == "does_not_fit"


def test_31_names_are_never_matched_by_substring() -> None:
    l4, l40 = match_name("NVIDIA L4"), match_name("NVIDIA L40")
    assert l4 is not None
    assert l40 is not None
    assert l4.id != l40.id


def test_33_geforce_accumulates_in_float32_at_half_rate() -> None:
    assert device("nvidia-rtx-4090-24gb").peak_flops["bfloat16"] == pytest.approx(165e12, rel=0.01)


def test_34_lora_skips_frozen_weight_gradients() -> None:
    full, lora = ask(LLAMA_8B, method="full").throughput, ask(LLAMA_8B, method="lora").throughput
    assert full is not None
    assert lora is not None
    matmul = {
        kind: next(o.flops for o in t.operations if o.operation == "matmul")
        for kind, t in (("full", full), ("lora", lora))
    }
    assert matmul["lora"] / matmul["full"] == pytest.approx(4 / 6, rel=0.03)


def test_34_moe_computes_active_parameters_only() -> None:
    given = ask(QWEN_MOE, method="full")
    assert given.parameters is not None
    assert given.throughput is not None
    matmul = next(o.flops for o in given.throughput.operations if o.operation == "matmul")
    assert matmul < 6 * 2048 * 1.1 * given.parameters.active
