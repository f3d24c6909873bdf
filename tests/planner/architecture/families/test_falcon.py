from __future__ import annotations

from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    attention_of,
    branches_of,
    is_parallel,
    layers_of,
    spec_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("falcon")


def test_the_small_model_has_one_key_value_head_and_one_norm() -> None:
    spec = spec_of("tiiuae/falcon-7b")
    assert attention_of(spec).key_value_heads == 1
    assert is_parallel(spec)
    assert layers_of(spec)[0].sublayers[0].norm is not None


def test_the_new_decoder_has_grouped_heads_and_two_norms() -> None:
    spec = spec_of("tiiuae/falcon-180B")
    assert attention_of(spec).key_value_heads == 8
    assert all(branch.norm is not None for branch in branches_of(layers_of(spec)[0]))
    assert attention_of(spec_of("tiiuae/falcon-7b", alibi=True)).position == "alibi"
