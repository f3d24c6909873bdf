from __future__ import annotations

from planner.architecture.spec import Attention
from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    spec_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("exaone4_5")


def test_the_tower_groups_its_heads() -> None:
    spec = spec_of("LGAI-EXAONE/EXAONE-4.5-33B")
    mixer = spec.encoders[0].runs[0].layer.sublayers[0].mixer
    assert isinstance(mixer, Attention)
    assert not mixer.causal
    assert (mixer.query_heads, mixer.key_value_heads) == (32, 8)
