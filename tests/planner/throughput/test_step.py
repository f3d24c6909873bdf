from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from planner.architecture.registry import read_config
from planner.catalog.models import model
from planner.hardware.devices import all_devices, device
from planner.hardware.profile import DeviceProfile
from planner.step.compiler import compile_step
from planner.step.rules import StepRules
from planner.throughput import StepTime, UnknownRate, bytes_sent, seconds_to_finish, step_time

LLAMA = read_config(
    {
        "model_type": "llama",
        "hidden_size": 512,
        "intermediate_size": 1376,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
        "vocab_size": 32000,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": False,
    }
)
WIDE = read_config(model("meta-llama/Llama-3.1-8B").config)
FULL = StepRules("full", "bfloat16", "bfloat16", "bfloat16")


def timed(rules: StepRules = FULL, name: str = "nvidia-a100-sxm-80gb", **changes: object) -> StepTime:
    plan: dict[str, object] = {
        "batch": 4,
        "sequence": 1024,
        "rank": 16,
        "gradient_accumulation_steps": 1,
        "optimizer_bytes": 10**9,
    }
    return step_time(compile_step(LLAMA, rules), rules, LLAMA, device(name), **{**plan, **changes})  # pyright: ignore[reportArgumentType]


def test_model_flops_of_a_full_step_are_six_per_weight_and_token_plus_attention() -> None:
    time = timed()
    linear = 8 * (4 * 512 * 512 + 3 * 512 * 1376) + 512 * 32000
    tokens = 4 * 1024
    attention = 6 * 8 * tokens * 1024 * 512
    peak = device("nvidia-a100-sxm-80gb").peak_flops["bfloat16"]
    assert time.mfu == pytest.approx((6 * linear * tokens + attention) / time.step_seconds / peak, rel=1e-9)


def test_arrays_follow_the_same_path_as_ints() -> None:
    batches, lengths = np.array([[1], [4]]), np.array([[512, 1024, 2048]])
    times = timed(batch=batches, sequence=lengths)
    assert times.step_seconds.shape == (2, 3)
    for row, batch in enumerate((1, 4)):
        for column, length in enumerate((512, 1024, 2048)):
            one = timed(batch=batch, sequence=length)
            assert times.step_seconds[row, column] == pytest.approx(one.step_seconds, rel=1e-12)
            assert times.mfu is not None
            assert times.mfu[row, column] == pytest.approx(one.mfu, rel=1e-12)


def test_micro_batches_multiply_everything_but_the_optimizer() -> None:
    one, eight = timed(), timed(gradient_accumulation_steps=8)
    optimizer = next(part.seconds for part in one.operations if part.operation == "optimizer")
    assert eight.step_seconds - optimizer == pytest.approx(8 * (one.step_seconds - optimizer))


def test_operations_add_up_to_the_step() -> None:
    time = timed()
    assert sum(part.seconds for part in time.operations) == pytest.approx(time.step_seconds)


def test_checkpointing_costs_a_forward_pass_and_lowers_no_model_flops() -> None:
    plain = timed()
    full = StepRules("full", "bfloat16", "bfloat16", "bfloat16", checkpointing="full", checkpoint_every=1)
    selective = StepRules("full", "bfloat16", "bfloat16", "bfloat16", checkpointing="selective_op", checkpoint_every=1)
    assert (
        plain.step_seconds
        < timed(selective).step_seconds
        < timed(full).step_seconds
        < 4 / 3 * plain.step_seconds * 1.05
    )
    assert timed(full).mfu * timed(full).step_seconds == pytest.approx(plain.mfu * plain.step_seconds)  # pyright: ignore[reportOperatorIssue]


def test_the_math_kernel_is_slower_than_the_fused_one() -> None:
    math = StepRules("full", "bfloat16", "bfloat16", "bfloat16", kernel="math")
    assert timed(math).step_seconds > timed().step_seconds


def test_without_a_fused_kernel_attention_computes_the_masked_half_as_well() -> None:
    flops = {}
    for kernel in ("fused", "math", "eager"):
        rules = StepRules("full", "bfloat16", "bfloat16", "bfloat16", kernel=kernel)
        flops[kernel] = next(part.flops for part in timed(rules).operations if part.operation == "attention")
    assert flops["math"] == flops["eager"] == 2 * flops["fused"]


def test_recomputing_attention_alone_costs_only_its_score_matrices() -> None:
    again = {"checkpointing": "selective_attention"}
    fused = StepRules("full", "bfloat16", "bfloat16", "bfloat16", **again)  # pyright: ignore[reportArgumentType]
    eager = StepRules("full", "bfloat16", "bfloat16", "bfloat16", kernel="eager")
    eager_again = StepRules("full", "bfloat16", "bfloat16", "bfloat16", kernel="eager", **again)  # pyright: ignore[reportArgumentType]
    assert timed(fused).step_seconds == timed().step_seconds
    assert timed(eager_again).step_seconds > timed(eager).step_seconds


def test_unpacking_four_bit_weights_costs_time() -> None:
    lora = StepRules("lora", "bfloat16", "bfloat16", "float32")
    qlora = StepRules("qlora", "bfloat16", "bfloat16", "float32", scheme="nf4")
    assert timed(qlora).step_seconds > timed(lora).step_seconds


def test_ranks_need_to_know_what_they_send() -> None:
    with pytest.raises(ValueError, match="communication_bytes"):
        timed(data_parallel=8)


def test_ranks_share_the_work_and_pay_for_their_link() -> None:
    alone = timed()
    sent = bytes_sent(gradient_bytes=10**8, weight_bytes=0, data_parallel=8, zero_stage=0)
    together = timed(data_parallel=8, communication_bytes=sent)
    assert together.step_seconds >= alone.step_seconds
    assert alone.tokens_per_second < together.tokens_per_second <= 8 * alone.tokens_per_second


def test_bytes_sent_by_a_ring() -> None:
    assert bytes_sent(gradient_bytes=800, weight_bytes=0, data_parallel=1, zero_stage=0) == 0
    assert bytes_sent(gradient_bytes=800, weight_bytes=0, data_parallel=8, zero_stage=2) == 1400
    assert bytes_sent(gradient_bytes=800, weight_bytes=800, data_parallel=8, zero_stage=3) == 2100
    assert (
        bytes_sent(gradient_bytes=800, weight_bytes=800, data_parallel=8, zero_stage=3, gradient_accumulation_steps=2)
        == 4200
    )


def test_emulated_bfloat16_is_slower_than_float16_on_a_t4() -> None:
    half = StepRules("full", "float16", "float16", "float16")
    assert timed(FULL, "nvidia-t4-16gb").step_seconds > 2 * timed(half, "nvidia-t4-16gb").step_seconds


def test_the_interval_holds_the_step() -> None:
    for name in ("nvidia-a100-sxm-80gb", "amd-epyc-7763"):
        time = timed(name=name)
        assert time.interval[0] < time.step_seconds < time.interval[1]
    assert timed(name="amd-epyc-7763").basis == "derived"
    assert timed().basis == "catalogue"


def test_time_to_finish() -> None:
    time = timed()
    assert seconds_to_finish(time, 4 * 1024) == pytest.approx(time.step_seconds)


def test_a_device_without_figures_has_no_time() -> None:
    nameless = replace(device("nvidia-a100-sxm-80gb"), memory_bandwidth_bytes_per_second=None)
    with pytest.raises(UnknownRate, match="memory bandwidth"):
        step_time(
            compile_step(LLAMA, FULL), FULL, LLAMA, nameless,
            batch=1, sequence=8, rank=1, gradient_accumulation_steps=1, optimizer_bytes=0,
        )  # fmt: skip


def test_a_quantity_beyond_64_bits_is_an_error_not_a_wrong_time() -> None:
    with pytest.raises(OverflowError, match="64-bit"):
        timed(optimizer_bytes=2**63)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_no_device_uses_more_of_its_peak_than_training_ever_did(dtype: str) -> None:
    used = {
        item.id: time.mfu for item in all_devices() if (time := _busy(item, dtype)) is not None and time.mfu is not None
    }
    assert len(used) > 150
    assert max(used.values()) < 0.82, max(used, key=used.__getitem__)


def _busy(item: DeviceProfile, asked: str) -> StepTime | None:
    dtype = "float16" if asked == "bfloat16" and item.supports.bfloat16 == "emulated" else asked
    rules = StepRules("full", dtype, dtype, dtype)
    try:
        return step_time(
            compile_step(WIDE, rules), rules, WIDE, item,
            batch=8, sequence=2048, rank=16, gradient_accumulation_steps=1, optimizer_bytes=10**9,
        )  # fmt: skip
    except UnknownRate:
        return None


def test_paged_states_travel_over_the_hosts_link() -> None:
    here, paged = timed(optimizer_bytes=8 * 10**9), timed(optimizer_bytes=10**9, paged_bytes=7 * 10**9)
    seconds = {
        id(time): next(o.seconds for o in time.operations if o.operation == "optimizer") for time in (here, paged)
    }
    assert seconds[id(paged)] > 20 * seconds[id(here)]
    assert seconds[id(paged)] == pytest.approx(7e9 / 25e9 / 0.86, rel=0.01)
