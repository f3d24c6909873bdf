from __future__ import annotations

from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    attention_of,
    mlp_of,
    spec_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("bitnet")


def test_a_norm_stands_before_each_output_projection() -> None:
    spec = spec_of("microsoft/bitnet-b1.58-2B-4T-bf16")
    assert attention_of(spec).extra[0].elements == 2560
    assert mlp_of(spec).extra[0].elements == 6912
