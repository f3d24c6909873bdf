"""ERNIE 4.5 MoE."""

from __future__ import annotations

from collections.abc import Callable

from planner.architecture.count import total
from planner.architecture.spec import Mlp, ModelSpec, Moe


def test_correction_biases_are_parameters(read: Callable[..., ModelSpec]) -> None:
    spec = read("baidu/ERNIE-4.5-21B-A3B-PT")
    dense, sparse = (run.layer.sublayers[1].mixer for run in spec.text.runs)
    assert isinstance(dense, Mlp)
    assert isinstance(sparse, Moe)
    assert sum(module.elements for module in sparse.extra) == 64
    assert total(spec) == 21_825_437_888


def test_biases_reach_the_head(read: Callable[..., ModelSpec]) -> None:
    spec = read("baidu/ERNIE-4.5-21B-A3B-PT", use_bias=True)
    assert spec.tied
    assert spec.lm_head is not None
    assert spec.lm_head.bias == 103_424
