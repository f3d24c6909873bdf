from __future__ import annotations

from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    spec_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("granite")


def test_the_granite_3_head_is_tied_by_its_config_only() -> None:
    assert spec_of("ibm-granite/granite-3.3-2b-instruct").tied
    assert not spec_of("ibm-granite/granite-3.3-2b-instruct", tie_word_embeddings=None).tied
