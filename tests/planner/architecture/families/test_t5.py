from __future__ import annotations

import pytest

from planner.architecture.config import ConfigError
from planner.architecture.spec import Attention
from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    attention_of,
    layers_of,
    mlp_of,
    spec_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("t5", "mt5")


def test_the_first_layer_of_each_stack_holds_the_distance_table() -> None:
    spec = spec_of("google-t5/t5-small")
    assert spec.task == "seq2seq_lm"
    assert spec.tied
    assert len(attention_of(spec, 0).extra) == 1
    assert attention_of(spec, 1).extra == ()
    crossing = layers_of(spec)[0].sublayers[1].mixer
    assert isinstance(crossing, Attention)
    assert crossing.cross


def test_a_head_of_its_own_is_noted() -> None:
    spec = spec_of("google/mt5-small")
    assert spec.notes[0].parameters == 250_112 * 512
    assert mlp_of(spec).activation == "gelu_new"


@pytest.mark.parametrize("kind", ["glued-gelu", "gated-gelu-new-relu"])
def test_other_feed_forwards_are_refused(kind: str) -> None:
    with pytest.raises(ConfigError, match="feed_forward_proj"):
        spec_of("google-t5/t5-small", feed_forward_proj=kind)
