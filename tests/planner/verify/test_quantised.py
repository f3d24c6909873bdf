"""What a quantised base keeps and makes, as bitsandbytes does."""

from dataclasses import replace

import pytest

from planner.verify.settings import TraceSettings
from planner.verify.timeline import Trace
from planner.verify.trace import trace_step
from tests.planner.verify import tiny

pytestmark = pytest.mark.slow

NF4 = TraceSettings(method="qlora", sequence_length=64, micro_batch_size=2, lora_rank=4, rounding_bytes=1)
INT8 = replace(NF4, quantization="int8")
# q, k, v, o, gate, up, down of one block, two blocks: [out, in].
MATRICES = 2 * [(64, 64), (32, 64), (32, 64), (64, 64), (176, 64), (176, 64), (64, 176)]
ELEMENTS = sum(rows * columns for rows, columns in MATRICES)


def loaded(trace: Trace, dtype: str, term: str = "weights") -> int:
    return sum(r.bytes for r in trace.records if r.op == "load" and r.dtype == dtype and r.label == term)


def shapes(trace: Trace, dtype: str, moment: str) -> list[tuple[int, ...]]:
    return [r.shape for r in trace.records if r.dtype == dtype and r.moment == moment]


def test_nf4_packs_two_weights_in_a_byte_and_leaves_embedding_and_head() -> None:
    trace = trace_step(tiny.LLAMA, NF4)
    assert loaded(trace, "uint8") == ELEMENTS // 2
    assert loaded(trace, "bfloat16") == 2 * (2 * tiny.VOCABULARY * 64 + 5 * 64)


def test_scales_are_a_term_of_their_own() -> None:
    blocks = [rows * columns // 64 for rows, columns in MATRICES]
    double = trace_step(tiny.LLAMA, NF4)
    single = trace_step(tiny.LLAMA, replace(NF4, double_quant=False))
    assert loaded(double, "uint8", "quantization_state") == sum(blocks)
    assert loaded(single, "float32", "quantization_state") == sum(4 * count + 64 for count in blocks)
    nested = sum(4 * -(-count // 256) + 4 * 256 + 4 + 64 for count in blocks)
    assert loaded(double, "float32", "quantization_state") == nested


@pytest.mark.parametrize("moment", ["forward", "backward"])
def test_nf4_forms_each_whole_weight_in_both_passes(moment: str) -> None:
    trace = trace_step(tiny.LLAMA, NF4)
    made = [r for r in trace.records if r.moment == moment and r.shape == (64, 176) and r.dtype == "bfloat16"]
    assert {record.label for record in made} == {"temporaries"}
    assert len(made) == 2 * 2  # two blocks, two steps


def test_nf4_keeps_no_input_of_its_own_under_16_bit_adapters_but_for_the_adapters() -> None:
    wide = trace_step(tiny.LLAMA, replace(NF4, adapter_dtype="bfloat16"))
    eight = trace_step(tiny.LLAMA, replace(INT8, adapter_dtype="bfloat16"))
    at = wide.moment_peaks()["loss"], eight.moment_peaks()["loss"]
    assert wide.bytes_by_term(at[0])["activations"] == eight.bytes_by_term(at[1])["activations"]


def test_int8_keeps_its_inputs_through_a_checkpoint() -> None:
    # x of q, k, v; of o; of gate and up; of down: three of width 64 and one of 176; two blocks; [2, 64, ..] in 16 bit.
    checkpointed = replace(INT8, activation_checkpointing="full")
    four = replace(checkpointed, quantization="nf4")
    eight_trace, four_trace = trace_step(tiny.LLAMA, checkpointed), trace_step(tiny.LLAMA, four)
    at = eight_trace.moment_peaks()["loss"], four_trace.moment_peaks()["loss"]
    more = eight_trace.bytes_by_term(at[0])["activations"] - four_trace.bytes_by_term(at[1])["activations"]
    assert more == 2 * 2 * 128 * (3 * 64 + 176)


def test_int8_multiplies_into_int32_and_float16() -> None:
    trace = trace_step(tiny.LLAMA, INT8)
    assert loaded(trace, "int8") == ELEMENTS
    assert loaded(trace, "float32", "quantization_state") == 4 * sum(rows for rows, _ in MATRICES)
    assert shapes(trace, "int32", "forward").count((128, 176)) == 2 * 2 * 2
    assert (128, 176) in shapes(trace, "float16", "forward")
    assert (128, 176) in shapes(trace, "int8", "forward")
    assert shapes(trace, "bool", "forward").count((128, 64)) == 2 * 2 * 6


def test_the_4_bit_result_is_cloned_and_the_adapters_sum_is_16_bit() -> None:
    trace = trace_step(tiny.LLAMA, NF4)
    clones = [r for r in trace.records if r.op == "clone" and r.module.endswith("down_proj") and r.moment == "forward"]
    assert len(clones) == 2 * 2
    sums = [r for r in trace.records if r.op == "add" and r.module.endswith("down_proj") and r.moment == "forward"]
    assert {record.dtype for record in sums} == {"bfloat16"}


def test_autocast_leaves_the_casts_to_the_products() -> None:
    trace = trace_step(tiny.LLAMA, replace(NF4, weights_dtype="float32"))
    assert trace.peak_bytes == sum(trace.bytes_by_term_at_peak.values())
