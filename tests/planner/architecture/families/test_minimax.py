"""MiniMax."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from planner.architecture.config import ConfigError
from planner.architecture.count import total
from planner.architecture.spec import Attention, ModelSpec, StateSpace


def test_m1_says_its_layers_by_number(read: Callable[..., ModelSpec]) -> None:
    m1, text = read("MiniMaxAI/MiniMax-M1-80k"), read("MiniMaxAI/MiniMax-Text-01-hf")
    assert total(m1) == total(text) == 456_089_655_296
    assert [run.count for run in m1.text.runs] == [7, 1] * 10
    lightning = m1.text.runs[0].layer.sublayers[0].mixer
    assert isinstance(lightning, StateSpace)
    assert (lightning.variant, lightning.inner, lightning.heads, lightning.state) == ("lightning", 8192, 64, 128)


def test_the_class_default_of_the_layers_is_not_used(read: Callable[..., ModelSpec]) -> None:
    with pytest.raises(ConfigError, match="layer_types"):
        read("MiniMaxAI/MiniMax-M1-80k", attn_type_list=None)


def test_m2_turns_half_of_each_head(read: Callable[..., ModelSpec]) -> None:
    attention = read("MiniMaxAI/MiniMax-M2").text.runs[0].layer.sublayers[0].mixer
    assert isinstance(attention, Attention)
    assert (attention.rotary_dim, attention.norm_over) == (64, "projection")
