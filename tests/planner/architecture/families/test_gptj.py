from __future__ import annotations

from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    attention_of,
    is_parallel,
    layers_of,
    spec_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("gptj")


def test_one_norm_feeds_both_branches() -> None:
    spec = spec_of("EleutherAI/gpt-j-6b")
    assert is_parallel(spec)
    assert layers_of(spec)[0].sublayers[0].norm is not None
    assert attention_of(spec).rotary_dim == 64
