"""Qwen 1.5/2 MoE and Qwen 3 MoE.

Source: transformers models/qwen2_moe and qwen3_moe (modeling and configuration files); arXiv 2407.10671, 2505.09388.
"""

from __future__ import annotations

from planner.architecture.blocks import decoder, gated_mlp, grouped_attention, pre_norm_layer
from planner.architecture.config import Config
from planner.architecture.experts import expert_count, interleaved, routed, shared_mlp, sparse_by_step
from planner.architecture.reader import Reader
from planner.architecture.spec import Layer, ModelSpec, linear


def read_qwen2_moe(config: Config) -> ModelSpec:
    """model_type qwen2_moe: q, k, v biases, shared experts behind a one-row gate that is an nn.Linear."""
    hidden = config.integer("hidden_size")
    activation = config.text("hidden_act", "silu")
    sparse = routed(
        config,
        count=expert_count(config, "num_experts"),
        intermediate=config.integer("moe_intermediate_size"),
        shared=shared_mlp(hidden, config.integer("shared_expert_intermediate_size"), activation),
        shared_gate=linear("shared_expert_gate", hidden, 1, "router"),
        activation=activation,
    )
    dense = gated_mlp(hidden, config.integer("intermediate_size"), activation=activation)
    pattern = sparse_by_step(config, config.layers())
    layers: list[Layer] = []
    for is_sparse, window in zip(pattern, _qwen2_windows(config, len(pattern)), strict=True):
        attention = grouped_attention(config, qkv_bias=config.flag("qkv_bias", True), window=window)
        layers.append(pre_norm_layer(hidden, attention, sparse if is_sparse else dense))
    return decoder(config, layers)


def _qwen2_windows(config: Config, count: int) -> list[int | None]:
    """Window of each layer: every second layer below `max_window_layers` slides, if `use_sliding_window` is true."""
    if "use_sliding_window" not in config or not config.flag("use_sliding_window"):
        return [None] * count
    window = config.integer("sliding_window", 4096)
    last = config.integer("max_window_layers", 28, minimum=0)
    return [window if index % 2 == 0 and index < last else None for index in range(count)]


def read_qwen3_moe(config: Config) -> ModelSpec:
    """model_type qwen3_moe: per-head QK norms, no shared expert; the window, if any, holds for every layer."""
    hidden = config.integer("hidden_size")
    activation = config.text("hidden_act", "silu")
    sliding = "use_sliding_window" in config and config.flag("use_sliding_window")
    bias = config.flag("attention_bias", False)
    attention = grouped_attention(
        config,
        qkv_bias=bias,
        output_bias=bias,
        qk_norm=True,
        window=config.integer("sliding_window", 4096) if sliding else None,
    )
    sparse = routed(
        config,
        count=expert_count(config, "num_experts"),
        intermediate=config.integer("moe_intermediate_size"),
        activation=activation,
    )
    pattern = sparse_by_step(config, config.layers())
    needs_dense = not all(pattern)
    dense = gated_mlp(hidden, config.integer("intermediate_size") if needs_dense else 1, activation=activation)
    return decoder(config, interleaved(hidden, attention, dense, sparse, pattern))


READERS: dict[str, Reader] = {"qwen2_moe": read_qwen2_moe, "qwen3_moe": read_qwen3_moe}
