"""Mamba and Falcon Mamba."""

from __future__ import annotations

from collections.abc import Callable

from planner.architecture.count import by_component
from planner.architecture.spec import ModelSpec, StateSpace


def test_mamba_has_one_mixer_per_layer(read: Callable[..., ModelSpec]) -> None:
    spec = read("state-spaces/mamba-130m-hf")
    (sublayer,) = spec.text.runs[0].layer.sublayers
    assert isinstance(sublayer.mixer, StateSpace)
    assert (sublayer.mixer.variant, sublayer.mixer.inner, sublayer.mixer.state, sublayer.mixer.kernel) == (
        "mamba", 1536, 16, 4,
    )  # fmt: skip
    assert spec.tied
    assert "attention" not in by_component(spec)


def test_falcon_mamba_keeps_its_own_inner_width(read: Callable[..., ModelSpec]) -> None:
    mixer = read("tiiuae/falcon-mamba-7b-instruct").text.runs[0].layer.sublayers[0].mixer
    assert isinstance(mixer, StateSpace)
    assert mixer.inner == 8192  # its `expand` of 16 would give 65,536
