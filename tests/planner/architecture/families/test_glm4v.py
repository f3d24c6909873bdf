from __future__ import annotations

from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    attention_of,
    spec_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("glm4v")


def test_the_text_model_always_has_biases() -> None:
    attention = attention_of(spec_of("zai-org/GLM-4.1V-9B-Thinking"))
    assert attention.q is not None
    assert attention.q.bias == 4096
    assert spec_of("zai-org/GLM-4.1V-9B-Thinking").encoders[0].positions_per_sample == 24 * 24
