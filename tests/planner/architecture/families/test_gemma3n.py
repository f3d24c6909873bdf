from __future__ import annotations

import pytest

from planner.architecture.config import ConfigError
from planner.architecture.count import total
from planner.catalog.models import model
from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    attention_of,
    spec_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("gemma3n", "gemma3n_text")


def test_the_last_layers_reuse_keys_and_values() -> None:
    spec = spec_of("google/gemma-3n-E4B-it")
    assert attention_of(spec, 19).k is not None
    assert attention_of(spec, 20).k is None
    assert attention_of(spec, 20).v is None
    assert total(spec) == 7_818_517_072


def test_one_mlp_width_per_layer_must_be_given_for_all() -> None:
    text = {**model("google/gemma-3n-E4B-it").config["text_config"], "intermediate_size": [16384] * 3}
    with pytest.raises(ConfigError, match="intermediate_size"):
        spec_of("google/gemma-3n-E4B-it", text_config=text)
