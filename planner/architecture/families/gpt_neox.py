"""GPT-NeoX 20B and Pythia: attention and MLP side by side, each with its own LayerNorm.

Source: transformers models/gpt_neox; arXiv 2204.06745.
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import (
    activation_of,
    even_head_dim,
    fused_projections,
    language_model,
    parallel_layer_two_norms,
    plain_mlp,
    runs_of,
    sequential_layer,
    token_embedding,
)
from planner.architecture.config import MAXIMUM_HEADS, Config
from planner.architecture.reader import Reader
from planner.architecture.spec import Attention, ModelSpec, Stack, layer_norm

CLASS_ROTARY_SHARE = 0.25


def _attention(config: Config, hidden: int) -> Attention:
    heads = config.integer("num_attention_heads", maximum=MAXIMUM_HEADS)
    head_dim = even_head_dim(config, hidden, heads, "num_attention_heads")
    bias = config.flag("attention_bias", True)
    names = ("query_key_value", "dense")
    attention = fused_projections(hidden, heads, heads, head_dim, qkv_bias=bias, output_bias=bias, names=names)
    share = config.number("rotary_pct", CLASS_ROTARY_SHARE, maximum=1.0)
    return replace(attention, rotary_dim=int(head_dim * share))


def read_gpt_neox(config: Config) -> ModelSpec:
    """model_type gpt_neox: `use_parallel_residual` (on by default) sums attention and MLP of the same input."""
    hidden = config.integer("hidden_size")
    attention = _attention(config, hidden)
    mlp = plain_mlp(
        hidden,
        config.integer("intermediate_size"),
        activation=activation_of(config, "gelu"),
        names=("dense_h_to_4h", "dense_4h_to_h"),
    )
    norms = (layer_norm("input_layernorm", hidden), layer_norm("post_attention_layernorm", hidden))
    join = parallel_layer_two_norms if config.flag("use_parallel_residual", True) else sequential_layer
    layers = [join(attention, mlp, norms)] * config.layers()
    return language_model(
        config,
        Stack("text", hidden, runs_of(layers), after=(layer_norm("final_layer_norm", hidden),)),
        embeddings=(token_embedding(config),),
        max_positions=config.optional_integer("max_position_embeddings"),
        tied_by_default=False,
    )


READERS: dict[str, Reader] = {"gpt_neox": read_gpt_neox}
