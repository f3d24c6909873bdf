from __future__ import annotations

from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    attention_of,
    layers_of,
    spec_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("glm", "glm4")


def test_half_of_each_head_turns_and_glm4_norms_twice() -> None:
    glm, glm4 = spec_of("zai-org/glm-4-9b-chat-hf"), spec_of("zai-org/GLM-4-9B-0414")
    assert attention_of(glm).rotary_dim == 64
    assert layers_of(glm)[0].sublayers[0].post_norm is None
    assert layers_of(glm4)[0].sublayers[0].post_norm is not None
