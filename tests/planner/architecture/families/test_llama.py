from __future__ import annotations

import pytest

from planner.architecture.config import ConfigError
from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    attention_of,
    mlp_of,
    spec_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("llama")


def test_biases_follow_their_flags() -> None:
    plain, biased = (
        spec_of("meta-llama/Llama-3.1-8B"),
        spec_of("meta-llama/Llama-3.1-8B", attention_bias=True, mlp_bias=True),
    )
    assert plain.lm_head is not None
    assert not plain.tied
    assert attention_of(plain).o.bias == 0
    assert attention_of(biased).o.bias == 4096
    assert mlp_of(biased).down.bias == 4096


def test_key_value_heads_must_divide_the_heads() -> None:
    with pytest.raises(ConfigError, match="num_key_value_heads"):
        spec_of("meta-llama/Llama-3.1-8B", num_key_value_heads=5)
