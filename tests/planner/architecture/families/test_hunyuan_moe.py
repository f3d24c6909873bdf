"""Hunyuan-A13B."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from planner.architecture.config import ConfigError
from planner.architecture.spec import ModelSpec, Moe

HUNYUAN = "tencent/Hunyuan-A13B-Instruct"


def test_experts_per_token_may_differ_by_layer(read: Callable[..., ModelSpec]) -> None:
    spec = read(HUNYUAN, num_hidden_layers=3, moe_topk=[8, 8, 2])
    mixers = [run.layer.sublayers[1].mixer for run in spec.text.runs]
    assert [(mixer.top_k, mixer.expert_count) for mixer in mixers if isinstance(mixer, Moe)] == [(8, 64), (2, 64)]
    with pytest.raises(ConfigError, match="moe_topk"):
        read(HUNYUAN, num_hidden_layers=3, moe_topk=[8, 8])


def test_the_shared_mlp_is_as_wide_as_an_expert(read: Callable[..., ModelSpec]) -> None:
    experts = read(HUNYUAN).text.runs[0].layer.sublayers[1].mixer
    assert isinstance(experts, Moe)
    assert experts.shared is not None
    assert experts.shared.intermediate == experts.intermediate == 3072
