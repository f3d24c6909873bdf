"""gpt-oss: attention with sinks, every second layer in a window, experts with biases.

Source: transformers models/gpt_oss (modeling and configuration files); arXiv 2508.10925.
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import decoder, grouped_attention, layers_by, pre_norm_layer, windows_of
from planner.architecture.config import Config
from planner.architecture.experts import chosen_experts, expert_count, router_parameter
from planner.architecture.reader import Reader
from planner.architecture.spec import Attention, Layer, ModelSpec, Module, Moe, parameter


def experts_with_biases(config: Config) -> Moe:
    """Experts stored transposed (gate_up [E, h, 2i], down [E, i, h]), all with biases, as is the router."""
    hidden, wide = config.integer("hidden_size"), config.integer("intermediate_size")
    count = expert_count(config, "num_local_experts")
    return Moe(
        hidden=hidden,
        intermediate=wide,
        expert_count=count,
        top_k=chosen_experts(config, "num_experts_per_tok", count),
        router=router_parameter(hidden, count, bias=True),
        experts=(
            Module("experts.gate_up_proj", "experts", "experts", (count, hidden, 2 * wide), count * 2 * wide),
            Module("experts.down_proj", "experts", "experts", (count, wide, hidden), count * hidden),
        ),
    )


def sink_attention(config: Config, window: int | None) -> Attention:
    """Grouped attention with biases on all four projections and one learned sink logit per query head."""
    bias = config.flag("attention_bias", True)
    attention = grouped_attention(config, qkv_bias=bias, output_bias=bias, window=window)
    return replace(attention, extra=(parameter("sinks", (attention.query_heads,), "attention"),))


def read_gpt_oss(config: Config) -> ModelSpec:
    """model_type gpt_oss: layers 0, 2, 4, ... slide over `sliding_window` positions unless `layer_types` says else."""
    hidden = config.integer("hidden_size")
    experts = experts_with_biases(config)

    def layer(window: int | None) -> Layer:
        return pre_norm_layer(hidden, sink_attention(config, window), experts)

    window = config.optional_integer("sliding_window")
    windows = windows_of(config, window, lambda index: "full_attention" if index % 2 else "sliding_attention")
    return decoder(config, layers_by(windows, layer))


READERS: dict[str, Reader] = {"gpt_oss": read_gpt_oss}
