"""Nemotron-4 and Minitron: Llama's attention, LayerNorm and an ungated squared-ReLU MLP.

Source: transformers models/nemotron; arXiv 2402.16819.
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import activation_of, decoder, grouped_attention, plain_mlp, sequential_layer
from planner.architecture.config import Config
from planner.architecture.reader import Reader
from planner.architecture.rotary import rotary_dim_of
from planner.architecture.spec import ModelSpec, layer_norm


def read_nemotron(config: Config) -> ModelSpec:
    """model_type nemotron: LayerNorm with weight and bias; RoPE turns half of each head."""
    hidden = config.integer("hidden_size")
    bias = config.flag("attention_bias", False)
    attention = grouped_attention(config, qkv_bias=bias, output_bias=bias)
    attention = replace(attention, rotary_dim=rotary_dim_of(config, attention.head_dim, 0.5))
    mlp = plain_mlp(
        hidden,
        config.integer("intermediate_size"),
        bias=config.flag("mlp_bias", False),
        activation=activation_of(config, "relu2"),
        names=("up_proj", "down_proj"),
    )
    norms = (layer_norm("input_layernorm", hidden), layer_norm("post_attention_layernorm", hidden))
    return decoder(config, [sequential_layer(attention, mlp, norms)] * config.layers(), norm=layer_norm)


READERS: dict[str, Reader] = {"nemotron": read_nemotron}
