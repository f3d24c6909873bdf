from __future__ import annotations

from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    attention_of,
    spec_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("qwen3")


def test_norms_run_over_each_head() -> None:
    attention = attention_of(spec_of("Qwen/Qwen3-0.6B"))
    assert attention.head_dim == 128
    assert attention.q_norm is not None
    assert attention.q_norm.elements == 128
    assert attention.norm_over == "head"
