"""BLOOM: GPT-2's block with ALiBi and a LayerNorm behind the embedding.

Source: transformers models/bloom; arXiv 2211.05100.
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import (
    called,
    even_head_dim,
    fused_projections,
    language_model,
    plain_mlp,
    runs_of,
    sequential_layer,
    vocabulary_of,
)
from planner.architecture.config import MAXIMUM_HEADS, Config
from planner.architecture.reader import Reader
from planner.architecture.spec import ModelSpec, Stack, embedding, layer_norm


def read_bloom(config: Config) -> ModelSpec:
    """model_type bloom: biases everywhere, an MLP of four times the width, tied head."""
    hidden = config.integer(called(config, "hidden_size", "n_embed"))
    heads_name = called(config, "n_head", "num_attention_heads")
    heads = config.integer(heads_name, maximum=MAXIMUM_HEADS)
    head_dim = even_head_dim(config, hidden, heads, heads_name)
    names = ("query_key_value", "dense")
    attention = fused_projections(hidden, heads, heads, head_dim, qkv_bias=True, output_bias=True, names=names)
    mlp = plain_mlp(hidden, 4 * hidden, activation="bloom_gelu", names=("dense_h_to_4h", "dense_4h_to_h"))
    norms = (layer_norm("input_layernorm", hidden), layer_norm("post_attention_layernorm", hidden))
    layer = sequential_layer(replace(attention, position="alibi"), mlp, norms)
    text = Stack(
        "text",
        hidden,
        runs_of([layer] * config.layers(called(config, "n_layer", "num_hidden_layers"))),
        before=(layer_norm("word_embeddings_layernorm", hidden),),
        after=(layer_norm("ln_f", hidden),),
    )
    return language_model(
        config,
        text,
        embeddings=(embedding("word_embeddings", vocabulary_of(config), hidden),),
        max_positions=None,
        tied_by_default=True,
    )


READERS: dict[str, Reader] = {"bloom": read_bloom}
