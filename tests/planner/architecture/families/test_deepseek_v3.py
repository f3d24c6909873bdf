"""DeepSeek V3 and Kimi K2."""

from __future__ import annotations

from collections.abc import Callable

from planner.architecture.count import active, checkpoint_total, total
from planner.architecture.spec import LatentAttention, ModelSpec, Moe


def test_v3_counts_the_model_and_its_prediction_layer(read: Callable[..., ModelSpec]) -> None:
    spec = read("deepseek-ai/DeepSeek-V3")
    assert total(spec) == 671_026_404_352
    # 684,531,386,000 on the Hub less 41,540,496 FP8 block scales and 15,104 router correction biases
    assert checkpoint_total(spec) == 684_489_830_400
    assert [note.code for note in spec.notes] == ["mtp_not_trained"]
    assert round(active(spec) / 1e9, 1) == 37.6


def test_v3_as_a_description(read: Callable[..., ModelSpec]) -> None:
    spec = read("deepseek-ai/DeepSeek-V3")
    attention, experts = (sublayer.mixer for sublayer in spec.text.runs[1].layer.sublayers)
    assert isinstance(attention, LatentAttention)
    assert isinstance(experts, Moe)
    assert [run.count for run in spec.text.runs] == [3, 58]
    assert (attention.heads, attention.query_nope_dim, attention.rope_dim, attention.value_head_dim) == (
        128,
        128,
        64,
        128,
    )
    assert (experts.expert_count, experts.top_k, experts.intermediate) == (256, 8, 2048)
    assert experts.router.kind == "parameter"


def test_kimi_k2_has_no_prediction_layer(read: Callable[..., ModelSpec]) -> None:
    spec = read("moonshotai/Kimi-K2-Instruct")
    assert total(spec) == checkpoint_total(spec) == 1_026_408_209_408
    assert spec.notes == ()


def test_fp8_weights_are_recognised(read: Callable[..., ModelSpec]) -> None:
    spec = read("deepseek-ai/DeepSeek-V3", quantization_config={"quant_method": "fp8", "weight_block_size": [128, 128]})
    assert spec.stored_dtype == "float8"
