"""Phi-3.5-MoE."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from planner.architecture.config import ConfigError
from planner.architecture.spec import ModelSpec, Moe


def test_layer_norms_and_a_linear_router(read: Callable[..., ModelSpec]) -> None:
    spec = read("microsoft/Phi-3.5-MoE-instruct")
    second = spec.text.runs[0].layer.sublayers[1]
    assert second.norm is not None
    assert (second.norm.kind, second.norm.bias) == ("layer_norm", 4096)
    assert isinstance(second.mixer, Moe)
    assert second.mixer.router.kind == "linear"
    assert spec.lm_head is not None
    assert spec.lm_head.bias == 32_064


@pytest.mark.parametrize("field", ["attention_bias", "lm_head_bias"])
def test_biases_must_be_said(read: Callable[..., ModelSpec], field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        read("microsoft/Phi-3.5-MoE-instruct", **{field: None})
