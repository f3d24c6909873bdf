from __future__ import annotations

from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    attention_of,
    spec_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("baichuan")


def test_the_13b_model_uses_alibi() -> None:
    assert attention_of(spec_of("baichuan-inc/Baichuan2-7B-Base")).position == "rope"
    spec = spec_of("baichuan-inc/Baichuan2-13B-Base")
    assert attention_of(spec).position == "alibi"
    assert spec.max_positions == 4096
