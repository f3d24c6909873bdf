from __future__ import annotations

from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    attention_of,
    spec_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("bloom")


def test_positions_are_alibi_and_the_embedding_is_normed() -> None:
    spec = spec_of("bigscience/bloom-560m")
    assert attention_of(spec).position == "alibi"
    assert [module.name for module in spec.text.before] == ["word_embeddings_layernorm"]
