from __future__ import annotations

from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    attention_of,
    spec_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("seed_oss")


def test_the_output_projection_has_a_flag_of_its_own() -> None:
    attention = attention_of(spec_of("ByteDance-Seed/Seed-OSS-36B-Instruct"))
    assert attention.q is not None
    assert attention.q.bias == 80 * 128
    assert attention.o.bias == 0
