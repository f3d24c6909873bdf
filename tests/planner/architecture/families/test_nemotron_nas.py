from __future__ import annotations

import pytest

from planner.architecture.config import ConfigError
from planner.architecture.count import total
from planner.catalog.models import model
from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    layers_of,
    spec_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("nemotron-nas")


SUPER = "nvidia/Llama-3_3-Nemotron-Super-49B-v1"


def test_the_pruned_model_counts_as_its_checkpoint() -> None:
    assert total(spec_of(SUPER)) == 49_867_145_216


def test_a_layer_without_attention_has_no_norm_for_it() -> None:
    layers = layers_of(spec_of(SUPER))
    assert {len(layer.sublayers) for layer in layers} == {1, 2}


def test_linear_replacements_are_refused() -> None:
    blocks = [
        {**block, "ffn": {**block["ffn"], "replace_with_linear": True}}
        for block in model(SUPER).config["block_configs"]
    ]
    with pytest.raises(ConfigError, match="replace_with_linear"):
        spec_of(SUPER, block_configs=blocks)
