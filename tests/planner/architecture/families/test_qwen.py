from __future__ import annotations

from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    attention_of,
    mlp_of,
    spec_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("qwen")


def test_intermediate_size_counts_gate_and_up_together() -> None:
    spec = spec_of("Qwen/Qwen-7B")
    assert mlp_of(spec).intermediate == 11008
    assert attention_of(spec).qkv is not None
    assert attention_of(spec).o.bias == 0
