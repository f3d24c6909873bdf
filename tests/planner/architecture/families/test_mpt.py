from __future__ import annotations

from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    attention_of,
    spec_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("mpt")


def test_no_norm_has_a_bias_and_no_position_is_learned() -> None:
    spec = spec_of("mosaicml/mpt-7b")
    assert len(spec.embeddings) == 1
    assert spec.text.after[0].bias == 0
    assert attention_of(spec).position == "alibi"
