from __future__ import annotations

from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    layers_of,
    spec_of,
    windows_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("modernbert")


def test_the_first_layer_has_no_norm_and_every_third_sees_everything() -> None:
    spec = spec_of("answerdotai/ModernBERT-base")
    assert layers_of(spec)[0].sublayers[0].norm is None
    assert layers_of(spec)[1].sublayers[0].norm is not None
    assert windows_of(spec)[:4] == [None, 128, 128, None]
