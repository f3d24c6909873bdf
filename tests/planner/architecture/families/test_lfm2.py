"""LFM2 and LFM2-MoE."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from planner.architecture.config import ConfigError
from planner.architecture.spec import Mlp, ModelSpec, Moe, StateSpace


def test_convolutions_stand_between_attentions(read: Callable[..., ModelSpec]) -> None:
    spec = read("LiquidAI/LFM2-1.2B")
    mixer, mlp = (sublayer.mixer for sublayer in spec.text.runs[0].layer.sublayers)
    assert isinstance(mixer, StateSpace)
    assert isinstance(mlp, Mlp)
    assert (mixer.variant, mixer.inner, mixer.kernel) == ("short_conv", 2048, 3)
    assert mlp.intermediate == 8192  # 2/3 of 12288
    assert spec.tied


def test_the_first_layers_of_the_moe_are_dense(read: Callable[..., ModelSpec]) -> None:
    runs = read("LiquidAI/LFM2-8B-A1B").text.runs
    assert isinstance(runs[0].layer.sublayers[1].mixer, Mlp)
    assert runs[0].count == 2
    assert isinstance(runs[1].layer.sublayers[1].mixer, Moe)


def test_layer_types_are_needed(read: Callable[..., ModelSpec]) -> None:
    with pytest.raises(ConfigError, match="layer_types"):
        read("LiquidAI/LFM2-8B-A1B", layer_types=None)
