from __future__ import annotations

from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    attention_of,
    is_parallel,
    spec_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("stablelm")


def test_the_12b_model_is_parallel_with_a_norm_per_head() -> None:
    spec = spec_of("stabilityai/stablelm-2-12b")
    attention = attention_of(spec)
    assert is_parallel(spec)
    assert attention.q_norm is not None
    assert attention.q_norm.shape == (32, 160)
    assert attention.rotary_dim == 40
