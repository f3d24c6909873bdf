from __future__ import annotations

from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    layers_of,
    spec_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("hyperclovax")


def test_norms_after_the_sublayers_are_optional() -> None:
    name = "naver-hyperclovax/HyperCLOVAX-SEED-Think-14B"
    assert layers_of(spec_of(name))[0].sublayers[0].post_norm is not None
    assert layers_of(spec_of(name, use_post_norm=False))[0].sublayers[0].post_norm is None
