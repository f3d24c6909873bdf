from __future__ import annotations

import pytest

from planner.architecture.config import ConfigError
from tests.planner.architecture.families.dense_shapes import (
    spec_of,
    windows_of,
)


def test_layer_types_say_which_layers_slide() -> None:
    fields = {"model_type": "ministral", "head_dim": 128, "layer_types": ["sliding_attention", "full_attention"] * 16}
    assert windows_of(spec_of("mistralai/Mistral-7B-v0.1", **fields)) == [4096, None] * 16


def test_a_layer_type_that_no_class_knows_is_refused() -> None:
    with pytest.raises(ConfigError, match="layer_types"):
        spec_of("mistralai/Mistral-7B-v0.1", model_type="ministral", layer_types=["round"] * 32)
