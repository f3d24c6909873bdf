"""Phi-1, Phi-1.5 and Phi-2: parallel blocks with biases everywhere, the head included.

Source: transformers models/phi.
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import (
    activation_of,
    even_head_dim,
    heads_of,
    language_model,
    parallel_layer,
    plain_mlp,
    projections,
    runs_of,
    token_embedding,
)
from planner.architecture.config import Config
from planner.architecture.reader import Reader
from planner.architecture.rotary import rotary_dim_of
from planner.architecture.spec import Attention, ModelSpec, Stack, layer_norm


def _attention(config: Config, hidden: int) -> Attention:
    heads, key_value_heads = heads_of(config)
    head_dim = even_head_dim(config, hidden, heads, "num_attention_heads")
    attention = projections(hidden, heads, key_value_heads, head_dim, qkv_bias=True, output_bias=True)
    attention = replace(attention, rotary_dim=rotary_dim_of(config, head_dim, 0.5))
    if not config.flag("qk_layernorm", False):
        return attention
    return replace(attention, q_norm=layer_norm("q_layernorm", head_dim), k_norm=layer_norm("k_layernorm", head_dim))


def read_phi(config: Config) -> ModelSpec:
    """model_type phi."""
    hidden = config.integer("hidden_size")
    mlp = plain_mlp(hidden, config.integer("intermediate_size"), activation=activation_of(config, "gelu_new"))
    layer = parallel_layer(_attention(config, hidden), mlp, layer_norm("input_layernorm", hidden))
    return language_model(
        config,
        Stack("text", hidden, runs_of([layer] * config.layers()), after=(layer_norm("final_layernorm", hidden),)),
        embeddings=(token_embedding(config),),
        max_positions=config.optional_integer("max_position_embeddings"),
        tied_by_default=False,
        head_bias=True,
    )


READERS: dict[str, Reader] = {"phi": read_phi}
