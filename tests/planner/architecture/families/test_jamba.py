"""Jamba."""

from __future__ import annotations

from collections.abc import Callable

from planner.architecture.spec import Attention, ModelSpec, Moe, StateSpace


def test_one_attention_in_eight_layers_and_experts_in_every_second(read: Callable[..., ModelSpec]) -> None:
    spec = read("ai21labs/Jamba-v0.1")
    layers = [run.layer for run in spec.text.runs for _ in range(run.count)]
    attends = [isinstance(layer.sublayers[0].mixer, Attention) for layer in layers]
    assert [index for index, value in enumerate(attends) if value] == [4, 12, 20, 28]
    assert [isinstance(layer.sublayers[1].mixer, Moe) for layer in layers] == [False, True] * 16
    attention, recurrent = layers[4].sublayers[0].mixer, layers[0].sublayers[0].mixer
    assert isinstance(attention, Attention)
    assert isinstance(recurrent, StateSpace)
    assert attention.position == "none"
    assert (recurrent.inner, recurrent.state, recurrent.kernel) == (8192, 16, 4)
