"""StableLM 3B and StableLM 2.

Source: transformers models/stablelm.
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import (
    activation_of,
    decoder,
    even_head_dim,
    filled,
    gated_mlp,
    heads_of,
    norm_per_head,
    parallel_layer,
    projections,
    sequential_layer,
)
from planner.architecture.config import Config
from planner.architecture.reader import Reader
from planner.architecture.rotary import rotary_dim_of
from planner.architecture.spec import Attention, ModelSpec, layer_norm


def _attention(config: Config, hidden: int) -> Attention:
    heads, key_value_heads = heads_of(config)
    head_dim = even_head_dim(config, hidden, heads, "num_attention_heads")
    bias = config.flag("use_qkv_bias", False)
    attention = projections(hidden, heads, key_value_heads, head_dim, qkv_bias=bias)
    attention = replace(attention, rotary_dim=rotary_dim_of(config, head_dim, 0.25))
    if not config.flag("qk_layernorm", False):
        return attention
    return replace(
        attention,
        q_norm=norm_per_head("q_layernorm", heads, head_dim),
        k_norm=norm_per_head("k_layernorm", key_value_heads, head_dim),
    )


def read_stablelm(config: Config) -> ModelSpec:
    """model_type stablelm: gated MLP with LayerNorm; 12B has parallel blocks and a norm per head of q and k."""
    config = filled(config, num_key_value_heads=32)
    hidden = config.integer("hidden_size")
    attention = _attention(config, hidden)
    mlp = gated_mlp(hidden, config.integer("intermediate_size"), activation=activation_of(config, "silu"))
    first = layer_norm("input_layernorm", hidden)
    if config.flag("use_parallel_residual", False):
        layer = parallel_layer(attention, mlp, first)
    else:
        layer = sequential_layer(attention, mlp, (first, layer_norm("post_attention_layernorm", hidden)))
    return decoder(config, [layer] * config.layers(), norm=layer_norm)


READERS: dict[str, Reader] = {"stablelm": read_stablelm}
