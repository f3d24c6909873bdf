"""XGLM: GPT-2's block with separate projections and sinusoidal positions, which have no parameters.

Source: transformers models/xglm; arXiv 2112.10668.
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import (
    activation_of,
    called,
    even_head_dim,
    language_model,
    plain_mlp,
    projections,
    runs_of,
    sequential_layer,
    vocabulary_of,
)
from planner.architecture.config import MAXIMUM_HEADS, Config
from planner.architecture.reader import Reader
from planner.architecture.spec import Buffer, ModelSpec, Stack, embedding, layer_norm


def read_xglm(config: Config) -> ModelSpec:
    """model_type xglm: biases everywhere, tied head."""
    hidden = config.integer(called(config, "d_model", "hidden_size"))
    heads_name = called(config, "attention_heads", "num_attention_heads")
    heads = config.integer(heads_name, maximum=MAXIMUM_HEADS)
    head_dim = even_head_dim(config, hidden, heads, heads_name)
    attention = replace(projections(hidden, heads, heads, head_dim, qkv_bias=True, output_bias=True), position="none")
    mlp = plain_mlp(hidden, config.integer("ffn_dim"), activation=activation_of(config, "gelu", "activation_function"))
    norms = (layer_norm("self_attn_layer_norm", hidden), layer_norm("final_layer_norm", hidden))
    layers = config.layers(called(config, "num_layers", "num_hidden_layers"))
    positions = config.integer("max_position_embeddings", 2048)
    spec = language_model(
        config,
        Stack(
            "text",
            hidden,
            runs_of([sequential_layer(attention, mlp, norms)] * layers),
            after=(layer_norm("layer_norm", hidden),),
        ),
        embeddings=(embedding("embed_tokens", vocabulary_of(config), hidden),),
        max_positions=config.optional_integer("max_position_embeddings"),
        tied_by_default=True,
    )
    return replace(spec, buffers=(Buffer("sinusoidal positions", (positions + 2) * hidden),))


READERS: dict[str, Reader] = {"xglm": read_xglm}
