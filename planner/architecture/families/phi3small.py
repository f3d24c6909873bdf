"""Phi-3-small: grouped attention, LayerNorm and a gated GELU MLP, with biases everywhere and a tied head.

Every second layer attends block-sparsely; it is counted and planned as full attention.

Source: the checkpoints' modeling_phi3_small.py (not in transformers); arXiv 2404.14219.
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import (
    decoder,
    even_head_dim,
    fused_gated_mlp,
    fused_projections,
    heads_of,
    sequential_layer,
)
from planner.architecture.config import Config
from planner.architecture.reader import Reader
from planner.architecture.spec import ModelSpec, Note, layer_norm

SPARSE_NOTE = Note(
    "block_sparse_attention_as_full",
    "Phi-3-small attends block-sparsely in every second layer; planned as full attention, an upper bound.",
)


def read_phi3small(config: Config) -> ModelSpec:
    """model_type phi3small: `ff_intermediate_size` is the MLP's width."""
    hidden = config.integer("hidden_size")
    heads, key_value_heads = heads_of(config, "required")
    head_dim = even_head_dim(config, hidden, heads, "num_attention_heads")
    names = ("query_key_value", "dense")
    attention = fused_projections(
        hidden, heads, key_value_heads, head_dim, qkv_bias=True, output_bias=True, names=names
    )
    mlp = fused_gated_mlp(hidden, config.integer("ff_intermediate_size"), bias=True, activation="gegelu")
    norms = (layer_norm("input_layernorm", hidden), layer_norm("post_attention_layernorm", hidden))
    layers = [sequential_layer(attention, mlp, norms)] * config.layers()
    spec = decoder(config, layers, tied_by_default=True, norm=layer_norm)
    return replace(spec, notes=(SPARSE_NOTE,))


READERS: dict[str, Reader] = {"phi3small": read_phi3small}
