"""Qwen 2 MoE and Qwen 3 MoE."""

from __future__ import annotations

from collections.abc import Callable

from planner.architecture.count import by_component
from planner.architecture.spec import Attention, Mlp, ModelSpec, Moe


def test_qwen2_moe_has_a_gated_shared_expert_and_qkv_biases(read: Callable[..., ModelSpec]) -> None:
    spec = read("Qwen/Qwen1.5-MoE-A2.7B")
    attention, experts = (sublayer.mixer for sublayer in spec.text.runs[0].layer.sublayers)
    assert isinstance(attention, Attention)
    assert isinstance(experts, Moe)
    assert attention.q is not None
    assert (attention.q.bias, attention.o.bias, attention.window) == (2048, 0, None)
    assert experts.shared is not None
    assert experts.shared.intermediate == 5632
    assert experts.shared_gate is not None
    assert experts.shared_gate.kind == "linear"


def test_qwen3_moe_has_qk_norms_and_linear_layers_hold_little(read: Callable[..., ModelSpec]) -> None:
    spec = read("Qwen/Qwen3-30B-A3B")
    attention = spec.text.runs[0].layer.sublayers[0].mixer
    assert isinstance(attention, Attention)
    assert attention.q_norm is not None
    assert (attention.head_dim, attention.q_norm.elements) == (128, 128)
    assert by_component(spec)["experts"] == 28_991_029_248


def test_sparse_steps_and_listed_layers_are_dense(read: Callable[..., ModelSpec]) -> None:
    spec = read("Qwen/Qwen3-30B-A3B", num_hidden_layers=4, decoder_sparse_step=2, mlp_only_layers=[3])
    kinds = [type(run.layer.sublayers[1].mixer) for run in spec.text.runs for _ in range(run.count)]
    assert kinds == [Mlp, Moe, Mlp, Mlp]


def test_qwen2_moe_windows_hold_in_every_second_layer(read: Callable[..., ModelSpec]) -> None:
    changes = {"num_hidden_layers": 6, "use_sliding_window": True, "max_window_layers": 3, "sliding_window": 64}
    spec = read("Qwen/Qwen1.5-MoE-A2.7B", **changes)
    mixers = [run.layer.sublayers[0].mixer for run in spec.text.runs for _ in range(run.count)]
    assert [mixer.window for mixer in mixers if isinstance(mixer, Attention)] == [64, None, 64, None, None, None]
