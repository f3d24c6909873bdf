"""DBRX."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from planner.architecture.config import ConfigError
from planner.architecture.count import total
from planner.architecture.spec import Attention, ModelSpec, Moe


def test_fused_attention_and_stacked_experts(read: Callable[..., ModelSpec]) -> None:
    spec = read("databricks/dbrx-base")
    attention, experts = (sublayer.mixer for sublayer in spec.text.runs[0].layer.sublayers)
    assert isinstance(attention, Attention)
    assert isinstance(experts, Moe)
    assert attention.qkv is not None
    assert attention.qkv.outputs == 6144 + 2 * 8 * 128
    assert [module.shape for module in experts.experts] == [(16 * 10752, 6144)] * 3
    assert total(spec) == 131_596_523_520


def test_nested_fields_are_named(read: Callable[..., ModelSpec]) -> None:
    with pytest.raises(ConfigError, match=r"ffn_config\.moe_top_k"):
        read("databricks/dbrx-base", ffn_config={"ffn_hidden_size": 8, "moe_num_experts": 2, "moe_top_k": 3})
