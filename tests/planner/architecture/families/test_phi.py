from __future__ import annotations

from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    attention_of,
    is_parallel,
    spec_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("phi")


def test_blocks_are_parallel_and_the_head_has_a_bias() -> None:
    spec = spec_of("microsoft/phi-1")
    assert is_parallel(spec)
    assert spec.lm_head is not None
    assert spec.lm_head.bias == spec.vocabulary
    assert attention_of(spec).rotary_dim == 32
