"""Mixtral: every layer has experts, no shared one."""

from __future__ import annotations

from collections.abc import Callable

from planner.architecture.count import active, by_component, total
from planner.architecture.spec import Attention, ModelSpec, Moe


def test_mixtral_8x7b(read: Callable[..., ModelSpec]) -> None:
    spec = read("mistralai/Mixtral-8x7B-v0.1")
    attention, experts = (sublayer.mixer for sublayer in spec.text.runs[0].layer.sublayers)
    assert isinstance(attention, Attention)
    assert isinstance(experts, Moe)
    assert total(spec) == 46_702_792_704
    assert by_component(spec)["experts"] == 45_097_156_608
    assert active(spec) == 46_702_792_704 - 45_097_156_608 * 6 // 8
    assert (attention.head_dim, attention.key_value_heads, attention.window) == (128, 8, None)
    assert (experts.expert_count, experts.top_k, experts.shared) == (8, 2, None)
    assert spec.stored_dtype == "bfloat16"


def test_a_sliding_window_holds_for_every_layer(read: Callable[..., ModelSpec]) -> None:
    spec = read("mistralai/Mixtral-8x7B-v0.1", sliding_window=4096)
    attention = spec.text.runs[0].layer.sublayers[0].mixer
    assert isinstance(attention, Attention)
    assert attention.window == 4096
    assert len(spec.text.runs) == 1
