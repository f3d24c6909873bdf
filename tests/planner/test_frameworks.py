"""What torchtune, torchtitan, litgpt and trl do differently from transformers reaches the answer."""

from __future__ import annotations

from typing import Any

import pytest

from tests.planner.asking import LLAMA_2_7B, LLAMA_8B, TINY, ask, moments, peak, terms

GEMMA = "google/gemma-2b"
FALCON = "tiiuae/falcon-7b"
FSDP: dict[str, Any] = {"framework": "torchtitan", "method": "full", "machine": {"device_count": 8},
                        "parallelism": {"zero_stage": 3}}  # fmt: skip


@pytest.mark.parametrize(("framework", "method", "dtype"), [
    ("torchtune", "lora", "bfloat16"), ("litgpt", "qlora", "bfloat16"), ("trl", "qlora", "bfloat16"),
    ("trl", "lora", "float32"), ("transformers", "qlora", "float32"),
])  # fmt: skip
def test_adapters_get_the_dtype_that_the_framework_gives_them(framework: str, method: str, dtype: str) -> None:
    for lora in (None, {"rank": 8}):
        given = ask(TINY, framework=framework, method=method, lora=lora)
        assert given.assumed["run.lora.adapter_dtype"] == dtype


@pytest.mark.parametrize("framework", ["axolotl", "llama_factory"])
def test_trainers_with_autocast_keep_no_wide_copy_of_a_quantised_layers_input(framework: str) -> None:
    common: dict[str, Any] = {"method": "qlora", "activation_checkpointing": "none", "loss": "fused_linear"}
    theirs, plain = ask(LLAMA_8B, framework=framework, **common), ask(LLAMA_8B, framework="transformers", **common)
    assert theirs.memory is not None
    assert not any("adapter's copy" in row.what for row in theirs.memory.device.ledger)
    assert terms(theirs)["adapters"] == terms(plain)["adapters"]
    assert peak(theirs) < peak(plain) - 2**30
    over_16_bit: dict[str, Any] = common | {"method": "lora"}
    assert peak(ask(LLAMA_8B, framework=framework, **over_16_bit)) < peak(
        ask(LLAMA_8B, framework="transformers", **over_16_bit)
    )


def test_litgpts_words_name_the_same_adapters_as_the_modules() -> None:
    words = ask(
        LLAMA_8B, framework="litgpt", method="lora", lora={"target_modules": ["query", "v", "projection", "mlp"]}
    )
    names = ["q_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    modules = ask(LLAMA_8B, framework="litgpt", method="lora", lora={"target_modules": names})
    assert words.parameters is not None
    assert modules.parameters is not None
    assert words.parameters.trainable == modules.parameters.trainable > 0


def test_litgpt_adapts_a_part_of_a_fused_projection() -> None:
    parts = ask(FALCON, framework="litgpt", method="lora", lora={"rank": 8, "target_modules": ["query", "value"]})
    assert parts.parameters is not None
    assert parts.parameters.trainable == 32 * 8 * ((4544 + 71 * 64) + (4544 + 64))


def test_litgpt_has_two_tables_where_the_checkpoint_ties_them() -> None:
    tied, own = ask(GEMMA, framework="transformers"), ask(GEMMA, framework="litgpt")
    assert tied.parameters is not None
    assert own.parameters is not None
    assert own.parameters.total - tied.parameters.total == 256_000 * 2048


def test_lightning_gives_litgpts_logits_back_in_float32() -> None:
    common: dict[str, Any] = {"method": "lora", "loss": "chunked", "activation_checkpointing": "none"}
    given = ask(LLAMA_8B, framework="litgpt", sequence_length=1024, loss_chunks=8, **common)
    logits, chunk = 1024 * 128_256, 128 * 128_256
    assert terms(given)["logits_and_loss"] + terms(given)["temporaries"] >= 8 * logits + 8 * chunk
    assert given.memory is not None
    assert not any(row.what == "output of lm_head" for row in given.memory.device.ledger)


def test_litgpt_quantises_the_head_too() -> None:
    common: dict[str, Any] = {"method": "qlora", "activation_checkpointing": "none"}
    ours, theirs = ask(LLAMA_2_7B, framework="litgpt", **common), ask(LLAMA_2_7B, framework="trl", **common)
    assert terms(theirs)["weights"] - terms(ours)["weights"] == 32_000 * 4096 * 3 // 2


def test_fsdp_computes_in_the_gathered_dtype_and_keeps_float32_shards() -> None:
    mixed = ask(LLAMA_8B, **FSDP, weights_dtype="float32", compute_dtype="bfloat16")
    assert mixed.memory is not None
    assert not any("autocast" in row.what for row in mixed.memory.device.ledger)
    assert terms(mixed)["weights"] == pytest.approx(8_030_261_248 * 4 / 8, rel=1e-3)
    assert terms(mixed)["optimizer_states"] == pytest.approx(8_030_261_248 * 8 / 8, rel=1e-3)


def test_fsdp_gathers_nothing_in_the_optimizer_step() -> None:
    given = ask(LLAMA_8B, **FSDP, weights_dtype="float32", compute_dtype="bfloat16", optimizer_impl="fused")
    assert moments(given)["optimizer_step"] == pytest.approx(8_030_261_248 * 16 / 8, rel=1e-3)


def test_litgpt_without_synchronisation_piles_up_whole_gradients() -> None:
    def plan(steps: int) -> int:
        return peak(ask(LLAMA_2_7B, framework="litgpt", method="full", machine={"device_count": 4},
                        parallelism={"zero_stage": 3}, gradient_accumulation_steps=steps))  # fmt: skip

    assert plan(4) - plan(1) > 6_738_415_616 * 2 * 0.7


def test_optimizer_in_backward_leaves_no_gradients() -> None:
    common: dict[str, Any] = {"framework": "torchtune", "method": "full", "optimizer": "paged_adamw_8bit"}
    assert peak(ask(LLAMA_8B, **common, optimizer_in_backward=True)) < peak(ask(LLAMA_8B, **common)) - 10**10
