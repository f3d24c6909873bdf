from __future__ import annotations

from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    attention_of,
    mlp_of,
    spec_of,
    windows_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("phi3")


def test_projections_are_fused() -> None:
    spec = spec_of("microsoft/Phi-3-mini-4k-instruct")
    assert attention_of(spec).q is None
    assert attention_of(spec).qkv is not None
    assert mlp_of(spec).gate_up is not None
    assert windows_of(spec) == [2047] * 32
