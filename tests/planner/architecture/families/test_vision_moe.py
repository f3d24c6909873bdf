"""Qwen3-VL MoE and GLM-4.5V."""

from __future__ import annotations

from collections.abc import Callable

from planner.architecture.count import by_component
from planner.architecture.spec import Attention, ModelSpec


def test_deepstack_mergers_count(read: Callable[..., ModelSpec]) -> None:
    spec = read("Qwen/Qwen3-VL-235B-A22B-Instruct")
    assert by_component(spec)["vision"] == 576_388_336
    assert len([module for module in spec.encoders[0].after if "deepstack" in module.name]) == 9


def test_the_towers_attend_in_both_directions(read: Callable[..., ModelSpec]) -> None:
    for name in ("Qwen/Qwen3-VL-235B-A22B-Instruct", "zai-org/GLM-4.5V"):
        attention = read(name).encoders[0].runs[0].layer.sublayers[0].mixer
        assert isinstance(attention, Attention)
        assert not attention.causal


def test_glm_text_has_partial_rope_and_biases(read: Callable[..., ModelSpec]) -> None:
    attention = read("zai-org/GLM-4.5V").text.runs[0].layer.sublayers[0].mixer
    assert isinstance(attention, Attention)
    assert attention.q is not None
    assert (attention.rotary_dim, attention.q.bias, attention.o.bias) == (64, 96 * 128, 0)
