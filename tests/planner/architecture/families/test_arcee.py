from __future__ import annotations

from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    mlp_of,
    spec_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("arcee")


def test_the_mlp_has_no_gate() -> None:
    assert mlp_of(spec_of("arcee-ai/AFM-4.5B")).gate is None
