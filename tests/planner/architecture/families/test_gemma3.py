from __future__ import annotations

from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    spec_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("gemma3")


def test_the_tower_counts_as_vision_and_reads_one_image_at_a_time() -> None:
    spec = spec_of("google/gemma-3-4b-it")
    tower = spec.encoders[0]
    assert tower.positions_per_sample == 64 * 64
    assert {module.component for module in (*tower.before, *tower.after)} == {"vision"}
    assert spec.model_type == "gemma3"
    assert spec.tied
