"""Phi-3.5-MoE: LayerNorms with biases, experts behind a router that is an nn.Linear.

Source: transformers models/phimoe (modeling and configuration files); arXiv 2404.14219.
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import decoder, grouped_attention, lm_head
from planner.architecture.config import Config
from planner.architecture.experts import expert_count, routed
from planner.architecture.reader import Reader
from planner.architecture.spec import Layer, ModelSpec, Sublayer, layer_norm, linear


def read_phimoe(config: Config) -> ModelSpec:
    """model_type phimoe; `attention_bias` and `lm_head_bias` must be said: the class defaults are not the model's."""
    hidden, bias = config.integer("hidden_size"), config.flag("attention_bias")
    count = expert_count(config, "num_local_experts")
    window = config.optional_integer("sliding_window")
    attention = grouped_attention(config, qkv_bias=bias, output_bias=bias, window=window)
    experts = routed(
        config,
        count=count,
        intermediate=config.integer("intermediate_size"),
        activation=config.text("hidden_act", "silu"),
    )
    experts = replace(experts, router=linear("router", hidden, count, "router"))
    layer = Layer(
        (
            Sublayer(attention, layer_norm("input_layernorm", hidden)),
            Sublayer(experts, layer_norm("post_attention_layernorm", hidden)),
        )
    )
    spec = decoder(config, [layer] * config.layers(), norm=layer_norm)
    return replace(spec, lm_head=lm_head(config, config.flag("lm_head_bias")))


READERS: dict[str, Reader] = {"phimoe": read_phimoe}
