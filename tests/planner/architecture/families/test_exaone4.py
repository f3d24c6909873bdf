from __future__ import annotations

from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    attention_of,
    layers_of,
    spec_of,
    windows_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("exaone4")


def test_a_sliding_model_has_no_position_in_its_full_layers() -> None:
    spec = spec_of("LGAI-EXAONE/EXAONE-4.0-1.2B", sliding_window=4096, sliding_window_pattern=4, layer_types=None)
    assert [attention_of(spec, index).position for index in range(4)] == ["rope", "rope", "rope", "none"]
    assert windows_of(spec)[:4] == [4096, 4096, 4096, None]


def test_norms_stand_after_the_sublayers() -> None:
    first = layers_of(spec_of("LGAI-EXAONE/EXAONE-4.0-1.2B"))[0].sublayers[0]
    assert first.norm is None
    assert first.post_norm is not None
