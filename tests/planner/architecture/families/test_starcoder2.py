from __future__ import annotations

from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    mlp_of,
    spec_of,
    windows_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("starcoder2")


def test_the_mlp_has_no_gate_and_biases_everywhere() -> None:
    spec = spec_of("bigcode/starcoder2-3b")
    assert mlp_of(spec).gate is None
    assert mlp_of(spec).down.bias == 3072
    assert spec.tied
    assert windows_of(spec) == [4096] * 30
