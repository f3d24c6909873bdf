"""OLMoE and FlexOlmo: QK norms over the projection; norms before or after the blocks."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from planner.architecture.config import ConfigError
from planner.architecture.spec import Attention, ModelSpec


def test_olmoe(read: Callable[..., ModelSpec]) -> None:
    first = read("allenai/OLMoE-1B-7B-0125").text.runs[0].layer.sublayers[0]
    assert isinstance(first.mixer, Attention)
    assert first.mixer.q_norm is not None
    assert (first.mixer.norm_over, first.mixer.q_norm.elements) == ("projection", 2048)
    assert first.norm is not None
    assert first.post_norm is None


def test_flex_olmo_norms_come_after(read: Callable[..., ModelSpec]) -> None:
    first, second = read("allenai/FlexOlmo-7x7B-1T").text.runs[0].layer.sublayers
    assert first.norm is None
    assert second.norm is None
    assert first.post_norm is not None
    assert second.post_norm is not None


def test_the_class_default_of_the_width_is_not_used(read: Callable[..., ModelSpec]) -> None:
    with pytest.raises(ConfigError, match="intermediate_size"):
        read("allenai/OLMoE-1B-7B-0125", intermediate_size=None)
