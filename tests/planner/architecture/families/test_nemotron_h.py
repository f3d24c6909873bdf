"""Nemotron-H and Nemotron 3."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from planner.architecture.config import ConfigError
from planner.architecture.count import checkpoint_total, total
from planner.architecture.spec import ModelSpec, Moe

NANO, SUPER = "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", "nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-BF16"


def experts_of(spec: ModelSpec) -> Moe:
    mixers = (run.layer.sublayers[0].mixer for run in spec.text.runs)
    return next(mixer for mixer in mixers if isinstance(mixer, Moe))


def test_experts_have_no_gate(read: Callable[..., ModelSpec]) -> None:
    experts = experts_of(read(NANO))
    assert not experts.gated
    assert [module.name for module in experts.experts] == ["experts.up_proj", "experts.down_proj"]
    assert experts.activation == "relu2"


def test_super_routes_in_a_latent_width(read: Callable[..., ModelSpec]) -> None:
    spec = read(SUPER)
    assert total(spec) == 120_668_687_360
    assert checkpoint_total(spec) == 123_611_012_096
    assert len(experts_of(spec).extra) == 2


def test_a_pattern_is_needed_and_checked(read: Callable[..., ModelSpec]) -> None:
    name = "nvidia/Nemotron-H-8B-Base-8K"
    assert read(name, hybrid_override_pattern="M*-").text.layer_count == 3
    with pytest.raises(ConfigError, match="hybrid_override_pattern"):
        read(name, hybrid_override_pattern="MX")
    with pytest.raises(ConfigError, match="hybrid_override_pattern"):
        read(name, hybrid_override_pattern=None)


def test_the_class_never_ties(read: Callable[..., ModelSpec]) -> None:
    spec = read("nvidia/Nemotron-H-8B-Base-8K", tie_word_embeddings=True)
    assert not spec.tied
    assert [note.code for note in spec.notes] == ["library_does_not_tie"]
