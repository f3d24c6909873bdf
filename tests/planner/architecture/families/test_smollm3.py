from __future__ import annotations

from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    attention_of,
    spec_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("smollm3")


def test_every_fourth_layer_has_no_position() -> None:
    spec = spec_of("HuggingFaceTB/SmolLM3-3B", no_rope_layers=None)
    positions = [attention_of(spec, index).position for index in range(8)]
    assert positions == ["rope", "rope", "rope", "none"] * 2
    assert spec.text == spec_of("HuggingFaceTB/SmolLM3-3B").text
