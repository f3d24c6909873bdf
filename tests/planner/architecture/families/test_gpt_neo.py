from __future__ import annotations

import pytest

from planner.architecture.config import ConfigError
from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    spec_of,
    windows_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("gpt_neo")


def test_every_second_layer_is_local() -> None:
    assert windows_of(spec_of("EleutherAI/gpt-neo-125m")) == [None, 256] * 6


@pytest.mark.parametrize("types", [[[["global"], 3]], [[["global"], 10**12]], [["global", 12]], [[[{}], 12]], [5]])
def test_attention_types_must_add_up(types: object) -> None:
    with pytest.raises(ConfigError, match="attention_types"):
        spec_of("EleutherAI/gpt-neo-125m", attention_types=types)
