"""Hunyuan-A13B: per-head QK norms, experts and one shared MLP of the same width in every layer.

Source: transformers models/hunyuan_v1_moe (modeling and configuration files); Tencent, Hunyuan-A13B report (2025).
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import decoder, grouped_attention, layers_by, pre_norm_layer
from planner.architecture.config import Config
from planner.architecture.experts import chosen_experts, expert_count, routed, shared_mlp
from planner.architecture.reader import Reader
from planner.architecture.spec import Layer, ModelSpec, linear


def slots_by_layer(config: Config, count: int) -> list[int]:
    """`moe_topk`: one number, or one per layer."""
    if not isinstance(config.values.get("moe_topk"), list):
        return [chosen_experts(config, "moe_topk", count)] * config.layers()
    chosen = config.items("moe_topk", config.layers()) or []
    if not all(isinstance(top_k, int) and not isinstance(top_k, bool) and 1 <= top_k <= count for top_k in chosen):
        raise config.error("moe_topk", f"a list of integers from 1 to {count}")
    return chosen


def read_hunyuan_v1_moe(config: Config) -> ModelSpec:
    """model_type hunyuan_v1_moe; the library gives every expert and the shared MLP `intermediate_size` columns."""
    hidden, width = config.integer("hidden_size"), config.integer("intermediate_size")
    count, activation = expert_count(config, "num_experts"), config.text("hidden_act", "silu")
    bias = config.flag("attention_bias", False)
    attention = grouped_attention(config, qkv_bias=bias, output_bias=bias, qk_norm=True)

    def layer(top_k: int) -> Layer:
        block = routed(
            replace(config, values={**config.values, "moe_topk": top_k}),
            count=count,
            intermediate=width,
            top_k="moe_topk",
            shared=shared_mlp(hidden, width, activation),
            activation=activation,
        )
        return pre_norm_layer(hidden, attention, replace(block, router=linear("gate.wg", hidden, count, "router")))

    return decoder(config, layers_by(slots_by_layer(config, count), layer))


READERS: dict[str, Reader] = {"hunyuan_v1_moe": read_hunyuan_v1_moe}
