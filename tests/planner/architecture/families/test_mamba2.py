"""Mamba-2."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from planner.architecture.config import ConfigError
from planner.architecture.spec import ModelSpec, StateSpace


def test_codestral_mamba(read: Callable[..., ModelSpec]) -> None:
    mixer = read("mistralai/Mamba-Codestral-7B-v0.1").text.runs[0].layer.sublayers[0].mixer
    assert isinstance(mixer, StateSpace)
    assert (mixer.variant, mixer.inner, mixer.state, mixer.heads, mixer.groups) == ("mamba2", 8192, 128, 128, 8)
    assert (mixer.kernel, mixer.chunk) == (4, 256)


def test_heads_must_fill_the_inner_width(read: Callable[..., ModelSpec]) -> None:
    with pytest.raises(ConfigError, match="num_heads"):
        read("mistralai/Mamba-Codestral-7B-v0.1", num_heads=64)
