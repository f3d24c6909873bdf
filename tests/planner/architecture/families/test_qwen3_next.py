"""Qwen3-Next: delta nets and gated attention."""

from __future__ import annotations

from collections.abc import Callable

from planner.architecture.spec import Attention, ModelSpec, Moe, StateSpace


def test_three_delta_nets_to_one_attention(read: Callable[..., ModelSpec]) -> None:
    spec = read("Qwen/Qwen3-Next-80B-A3B-Instruct")
    assert [run.count for run in spec.text.runs] == [3, 1] * 12
    delta, attention = (run.layer.sublayers[0].mixer for run in spec.text.runs[:2])
    assert isinstance(delta, StateSpace)
    assert isinstance(attention, Attention)
    assert (delta.variant, delta.inner, delta.state, delta.heads, delta.groups) == ("gated_delta", 4096, 128, 32, 16)
    assert (delta.kernel, delta.chunk) == (4, 64)
    assert attention.q is not None
    assert (attention.output_gate, attention.rotary_dim, attention.q.outputs) == (True, 64, 2 * 16 * 256)
    experts = spec.text.runs[0].layer.sublayers[1].mixer
    assert isinstance(experts, Moe)
    assert (experts.expert_count, experts.top_k) == (512, 10)
