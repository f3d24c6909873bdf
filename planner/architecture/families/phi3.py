"""Phi-3, Phi-3.5 and Phi-4: Llama's block with fused projections.

Source: transformers models/phi3; arXiv 2404.14219.
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import (
    activation_of,
    decoder,
    fused_gated_mlp,
    fused_projections,
    head_dim_of,
    heads_of,
    pre_norm_layer,
)
from planner.architecture.config import Config
from planner.architecture.reader import Reader
from planner.architecture.rotary import rotary_dim_of
from planner.architecture.spec import ModelSpec


def read_phi3(config: Config) -> ModelSpec:
    """model_type phi3: one qkv_proj and one gate_up_proj; `attention_bias` is not read by the class."""
    hidden = config.integer("hidden_size")
    heads, key_value_heads = heads_of(config)
    head_dim = head_dim_of(config, heads)
    attention = replace(
        fused_projections(hidden, heads, key_value_heads, head_dim),
        window=config.optional_integer("sliding_window"),
        rotary_dim=rotary_dim_of(config, head_dim),
    )
    mlp = fused_gated_mlp(hidden, config.integer("intermediate_size"), activation=activation_of(config, "silu"))
    return decoder(config, [pre_norm_layer(hidden, attention, mlp)] * config.layers())


READERS: dict[str, Reader] = {"phi3": read_phi3}
