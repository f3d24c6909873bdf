"""Granite 3 MoE, PowerMoE and Granite 4 hybrids: experts beside a shared MLP, Mamba-2 in most layers of the hybrids.

Source: transformers models/granitemoe, granitemoeshared, granitemoehybrid (modeling and configuration files).
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import decoder, grouped_attention, layer_types_of, layers_by, pre_norm_layer
from planner.architecture.config import MAXIMUM_EXPERTS, Config
from planner.architecture.experts import expert_count, routed
from planner.architecture.families.falcon_h1 import hybrid_widths
from planner.architecture.reader import Reader
from planner.architecture.recurrent import mamba2
from planner.architecture.spec import Attention, Component, Layer, Mlp, ModelSpec, Moe, StateSpace, linear


def granite_attention(config: Config) -> Attention:
    """Grouped attention with biases on all four projections if `attention_bias`."""
    bias = config.flag("attention_bias", False)
    return grouped_attention(config, qkv_bias=bias, output_bias=bias)


def granite_mlp(config: Config, component: Component) -> Mlp:
    """The shared MLP: gate and up in one projection [2 x shared_intermediate_size, h]."""
    hidden, width = config.integer("hidden_size"), config.integer("shared_intermediate_size")
    return Mlp(
        intermediate=width,
        gate_up=linear("input_linear", hidden, 2 * width, component),
        down=linear("output_linear", width, hidden, component),
        activation=config.text("hidden_act", "silu"),
    )


def granite_experts(config: Config, shared: Mlp | None) -> Moe:
    """`num_local_experts` experts of `intermediate_size` columns; the router's weight is a bare parameter."""
    return routed(
        config,
        count=expert_count(config, "num_local_experts"),
        intermediate=config.integer("intermediate_size"),
        shared=shared,
        activation=config.text("hidden_act", "silu"),
    )


def read_granitemoe(config: Config) -> ModelSpec:
    """model_type granitemoe and granitemoeshared (a shared MLP where `shared_intermediate_size` is not 0)."""
    has_shared = config.text("model_type") == "granitemoeshared" and config.integer(
        "shared_intermediate_size", minimum=0
    )
    shared = granite_mlp(config, "shared_experts") if has_shared else None
    layer = pre_norm_layer(config.integer("hidden_size"), granite_attention(config), granite_experts(config, shared))
    return decoder(config, [layer] * config.layers())


def granite_mixer(config: Config, kind: str) -> Attention | StateSpace:
    """Attention (with RoPE only if `position_embedding_type` says so) or a Mamba-2 mixer."""
    if kind in ("attention", "full_attention"):
        rope = config.values.get("position_embedding_type") == "rope"
        return replace(granite_attention(config), position="rope" if rope else "none")
    bias = config.flag("mamba_proj_bias", False)
    conv_bias = config.flag("mamba_conv_bias", True)
    return mamba2(hybrid_widths(config), conv_bias=conv_bias, input_bias=bias, output_bias=bias)


def read_granitemoehybrid(config: Config) -> ModelSpec:
    """model_type granitemoehybrid: `layer_types` picks the mixer; without experts the shared MLP stands alone."""
    hidden = config.integer("hidden_size")
    has_experts = config.integer("num_local_experts", minimum=0, maximum=MAXIMUM_EXPERTS) > 0
    if has_experts:
        feed_forward: Mlp | Moe = granite_experts(config, granite_mlp(config, "shared_experts"))
    else:
        feed_forward = granite_mlp(config, "mlp")

    def layer(kind: str) -> Layer:
        return pre_norm_layer(hidden, granite_mixer(config, kind), feed_forward)

    accepted = ("mamba", "attention", "linear_attention", "full_attention")
    return decoder(config, layers_by(layer_types_of(config, accepted, lambda _: "mamba"), layer))


READERS: dict[str, Reader] = {
    "granitemoe": read_granitemoe,
    "granitemoeshared": read_granitemoe,
    "granitemoehybrid": read_granitemoehybrid,
}
