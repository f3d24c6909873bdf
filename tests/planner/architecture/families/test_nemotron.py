from __future__ import annotations

from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    attention_of,
    mlp_of,
    spec_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("nemotron")


def test_the_mlp_is_ungated_squared_relu() -> None:
    spec = spec_of("nvidia/Nemotron-Mini-4B-Instruct")
    assert mlp_of(spec).gate is None
    assert mlp_of(spec).activation == "relu2"
    assert attention_of(spec).rotary_dim == 64
