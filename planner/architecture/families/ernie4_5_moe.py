"""ERNIE 4.5 (MoE): grouped attention, experts in a range of layers, a correction bias that is a parameter.

The correction bias has no gradient (Ernie4_5_MoeStatics, requires_grad=False), so that nothing trains it.

Source: transformers models/ernie4_5_moe (modeling and configuration files); ERNIE 4.5 technical report (2025).
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import decoder, gated_mlp, grouped_attention, lm_head, pre_norm_layer
from planner.architecture.config import MAXIMUM_EXPERTS, MAXIMUM_LAYERS, Config
from planner.architecture.experts import expert_count, routed
from planner.architecture.reader import Reader
from planner.architecture.spec import ModelSpec, Moe, frozen_parameter


def sparse_range(config: Config) -> list[bool]:
    """Experts from `moe_layer_start_index` to `moe_layer_end_index` (-1: the last) in every `moe_layer_interval`-th."""
    count = config.layers()
    start = config.integer("moe_layer_start_index", 1, minimum=0, maximum=MAXIMUM_LAYERS)
    end = config.integer("moe_layer_end_index", -1, minimum=-1, maximum=MAXIMUM_LAYERS)
    interval = config.integer("moe_layer_interval", 1, maximum=MAXIMUM_LAYERS)
    last = count - 1 if end == -1 else end
    return [(index + 1) % interval == 0 and start <= index <= last for index in range(count)]


def ernie_experts(config: Config, bias: bool) -> Moe:
    """`moe_num_experts` experts, a shared MLP of `moe_num_shared_experts` widths, one correction value per expert."""
    hidden, width = config.integer("hidden_size"), config.integer("moe_intermediate_size")
    count = expert_count(config, "moe_num_experts")
    shared = config.integer("moe_num_shared_experts", 2, minimum=0, maximum=MAXIMUM_EXPERTS) * width
    activation = config.text("hidden_act", "silu")
    block = routed(
        config,
        count=count,
        intermediate=width,
        top_k="moe_k",
        shared=gated_mlp(hidden, shared, bias=bias, activation=activation, component="shared_experts")
        if shared
        else None,
        activation=activation,
    )
    return replace(block, extra=(frozen_parameter("e_score_correction_bias", (1, count), "router"),))


def read_ernie4_5_moe(config: Config) -> ModelSpec:
    """model_type ernie4_5_moe: `use_bias` adds a bias to every projection outside the experts, the head included."""
    hidden = config.integer("hidden_size")
    bias = config.flag("use_bias", False)
    attention = grouped_attention(config, qkv_bias=bias, output_bias=bias)
    activation = config.text("hidden_act", "silu")
    dense = gated_mlp(hidden, config.integer("intermediate_size"), bias=bias, activation=activation)
    sparse = ernie_experts(config, bias)
    layers = {False: pre_norm_layer(hidden, attention, dense), True: pre_norm_layer(hidden, attention, sparse)}
    spec = decoder(config, [layers[kind] for kind in sparse_range(config)], tied_by_default=True)
    return replace(spec, lm_head=lm_head(config, bias))


READERS: dict[str, Reader] = {"ernie4_5_moe": read_ernie4_5_moe}
