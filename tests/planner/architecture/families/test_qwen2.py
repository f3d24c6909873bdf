from __future__ import annotations

import pytest

from planner.architecture.config import ConfigError
from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    attention_of,
    spec_of,
    windows_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("qwen2")


def test_q_k_and_v_have_biases_that_no_field_mentions() -> None:
    attention = attention_of(spec_of("Qwen/Qwen2.5-7B"))
    assert attention.q is not None
    assert attention.q.bias == 3584
    assert attention.o.bias == 0


def test_the_window_starts_at_max_window_layers() -> None:
    spec = spec_of("Qwen/Qwen2.5-7B", use_sliding_window=True, sliding_window=4096, max_window_layers=20)
    assert windows_of(spec) == [None] * 20 + [4096] * 8
    assert windows_of(spec_of("Qwen/Qwen2.5-7B", sliding_window=4096)) == [None] * 28


def test_missing_key_value_heads_are_asked_for() -> None:
    with pytest.raises(ConfigError, match="num_key_value_heads"):
        spec_of("Qwen/Qwen2.5-7B", num_key_value_heads=None)
