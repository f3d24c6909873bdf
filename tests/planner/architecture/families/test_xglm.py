from __future__ import annotations

from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    attention_of,
    spec_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("xglm")


def test_sinusoidal_positions_have_no_parameters() -> None:
    spec = spec_of("facebook/xglm-564M")
    assert len(spec.embeddings) == 1
    assert attention_of(spec).position == "none"
