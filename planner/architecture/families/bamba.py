"""Bamba: Mamba-2 layers and a few attention layers in which half of each head turns.

Source: transformers models/bamba (modeling and configuration files).
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import decoder, gated_mlp, grouped_attention, pre_norm_layer
from planner.architecture.config import Config
from planner.architecture.families.falcon_h1 import hybrid_widths
from planner.architecture.reader import Reader
from planner.architecture.recurrent import mamba2
from planner.architecture.spec import ModelSpec


def attention_indices(config: Config) -> frozenset[int]:
    """`attn_layer_indices`: a list of layer numbers, empty when missing."""
    indices = config.items("attn_layer_indices") or []
    if not all(isinstance(index, int) and not isinstance(index, bool) for index in indices):
        raise config.error("attn_layer_indices", "a list of layer numbers")
    return frozenset(indices)


def read_bamba(config: Config) -> ModelSpec:
    """model_type bamba."""
    hidden, bias = config.integer("hidden_size"), config.flag("attention_bias", False)
    attention = grouped_attention(config, qkv_bias=bias, output_bias=bias)
    attention = replace(attention, rotary_dim=attention.head_dim // 2)
    mamba_bias = config.flag("mamba_proj_bias", False)
    conv_bias = config.flag("mamba_conv_bias", True)
    recurrent = mamba2(hybrid_widths(config), conv_bias=conv_bias, input_bias=mamba_bias, output_bias=mamba_bias)
    mlp = gated_mlp(
        hidden,
        config.integer("intermediate_size"),
        bias=config.flag("mlp_bias", False),
        activation=config.text("hidden_act", "silu"),
    )
    layers = {True: pre_norm_layer(hidden, attention, mlp), False: pre_norm_layer(hidden, recurrent, mlp)}
    indices = attention_indices(config)
    return decoder(config, [layers[index in indices] for index in range(config.layers())])


READERS: dict[str, Reader] = {"bamba": read_bamba}
