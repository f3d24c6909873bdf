"""Bamba."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from planner.architecture.config import ConfigError
from planner.architecture.spec import Attention, ModelSpec


def test_three_attention_layers(read: Callable[..., ModelSpec]) -> None:
    spec = read("ibm-ai-platform/Bamba-9B-v2")
    mixers = [run.layer.sublayers[0].mixer for run in spec.text.runs for _ in range(run.count)]
    assert [index for index, mixer in enumerate(mixers) if isinstance(mixer, Attention)] == [9, 18, 27]
    attention = mixers[9]
    assert isinstance(attention, Attention)
    assert attention.rotary_dim == 64


def test_indices_are_checked(read: Callable[..., ModelSpec]) -> None:
    with pytest.raises(ConfigError, match="attn_layer_indices"):
        read("ibm-ai-platform/Bamba-9B-v2", attn_layer_indices=["9"])
