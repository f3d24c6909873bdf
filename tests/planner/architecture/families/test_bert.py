from __future__ import annotations

from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    attention_of,
    layers_of,
    spec_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("bert", "roberta", "xlm-roberta")


def test_norms_follow_the_residual_and_attention_sees_both_sides() -> None:
    spec = spec_of("google-bert/bert-base-uncased")
    assert spec.task == "masked_lm"
    assert not attention_of(spec).causal
    assert all(sublayer.norm_after_residual for sublayer in layers_of(spec)[0].sublayers)
    assert [table.shape[0] for table in spec.embeddings] == [30522, 512, 2]
