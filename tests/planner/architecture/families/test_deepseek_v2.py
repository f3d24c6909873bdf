"""DeepSeek MoE 16B and DeepSeek V2."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from planner.architecture.config import ConfigError
from planner.architecture.count import total
from planner.architecture.spec import Attention, LatentAttention, ModelSpec


def test_the_first_deepseek_moe_has_grouped_attention(read: Callable[..., ModelSpec]) -> None:
    spec = read("deepseek-ai/deepseek-moe-16b-base")
    assert total(spec) == 16_375_728_128
    assert isinstance(spec.text.runs[0].layer.sublayers[0].mixer, Attention)
    assert [run.count for run in spec.text.runs] == [1, 27]


def test_v2_lite_has_one_full_query_projection(read: Callable[..., ModelSpec]) -> None:
    attention = read("deepseek-ai/DeepSeek-V2-Lite").text.runs[0].layer.sublayers[0].mixer
    assert isinstance(attention, LatentAttention)
    assert attention.q is not None
    assert attention.q_a is None
    assert read("deepseek-ai/DeepSeek-V2").text.runs[0].layer.sublayers[0].mixer != attention


def test_a_missing_query_rank_is_not_taken_for_null(read: Callable[..., ModelSpec]) -> None:
    with pytest.raises(ConfigError, match="q_lora_rank"):
        read("deepseek-ai/DeepSeek-V2-Lite", q_lora_rank=None)
