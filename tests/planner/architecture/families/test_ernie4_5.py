from __future__ import annotations

from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    attention_of,
    spec_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("ernie4_5")


def test_the_head_is_tied_unless_the_config_says_otherwise() -> None:
    assert spec_of("baidu/ERNIE-4.5-0.3B-PT", tie_word_embeddings=None).tied
    assert attention_of(spec_of("baidu/ERNIE-4.5-0.3B-PT", use_bias=True)).o.bias == 1024
