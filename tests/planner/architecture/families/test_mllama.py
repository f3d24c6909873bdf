from __future__ import annotations

from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    attention_of,
    mlp_of,
    spec_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("mllama")


def test_cross_attention_layers_read_the_image() -> None:
    spec = spec_of("meta-llama/Llama-3.2-11B-Vision")
    crossing = [index for index in range(40) if attention_of(spec, index).cross]
    assert crossing == [3, 8, 13, 18, 23, 28, 33, 38]
    assert spec.embeddings[0].shape[0] == spec.vocabulary + 8


def test_gates_of_the_cross_layers_are_single_numbers() -> None:
    spec = spec_of("meta-llama/Llama-3.2-11B-Vision")
    assert attention_of(spec, 3).extra[0].elements == 1
    assert mlp_of(spec, 3).extra[0].elements == 1
