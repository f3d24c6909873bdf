"""Granite MoE and the Granite 4 hybrids."""

from __future__ import annotations

from collections.abc import Callable

from planner.architecture.count import by_component, total
from planner.architecture.spec import Attention, Mlp, ModelSpec, Moe, StateSpace


def test_the_hybrid_has_shared_experts_and_no_positions(read: Callable[..., ModelSpec]) -> None:
    spec = read("ibm-granite/granite-4.0-h-small")
    mixers = [run.layer.sublayers[0].mixer for run in spec.text.runs]
    recurrent, attention = mixers[0], mixers[1]
    assert isinstance(recurrent, StateSpace)
    assert isinstance(attention, Attention)
    assert (recurrent.inner, recurrent.heads, attention.position) == (8192, 128, "none")
    experts = spec.text.runs[0].layer.sublayers[1].mixer
    assert isinstance(experts, Moe)
    assert experts.shared is not None
    assert experts.shared.gate_up is not None


def test_without_experts_the_shared_mlp_is_the_mlp(read: Callable[..., ModelSpec]) -> None:
    spec = read("ibm-granite/granite-4.0-h-1b")
    assert isinstance(spec.text.runs[0].layer.sublayers[1].mixer, Mlp)
    assert "experts" not in by_component(spec)
    assert total(spec) == 1_461_538_368
