"""OPT: GPT-2's block with ReLU and separate projections; the 350M model projects a narrower embedding and norms last.

Source: transformers models/opt; arXiv 2205.01068.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from planner.architecture.blocks import (
    activation_of,
    bare_norm,
    even_head_dim,
    language_model,
    plain_mlp,
    projections,
    runs_of,
    vocabulary_of,
)
from planner.architecture.config import MAXIMUM_HEADS, Config
from planner.architecture.reader import Reader
from planner.architecture.spec import Layer, ModelSpec, Module, Stack, Sublayer, embedding, layer_norm, linear

POSITION_OFFSET = 2  # modeling_opt.py, OPTLearnedPositionalEmbedding: two rows more than positions


def _layer(config: Config, hidden: int, norm: Callable[[str, int], Module], before: bool) -> Layer:
    heads = config.integer("num_attention_heads", maximum=MAXIMUM_HEADS)
    bias = config.flag("enable_bias", True)
    head_dim = even_head_dim(config, hidden, heads, "num_attention_heads")
    attention = projections(hidden, heads, heads, head_dim, qkv_bias=bias, output_bias=bias)
    activation = activation_of(config, "relu", "activation_function")
    mlp = plain_mlp(hidden, config.integer("ffn_dim"), bias=bias, activation=activation)
    return Layer(
        (
            Sublayer(
                replace(attention, position="none"),
                norm("self_attn_layer_norm", hidden),
                norm_after_residual=not before,
            ),
            Sublayer(mlp, norm("final_layer_norm", hidden), norm_after_residual=not before),
        )
    )


def read_opt(config: Config) -> ModelSpec:
    """model_type opt: learned positions with two spare rows, LayerNorm, biases, tied head of the embedding's width."""
    hidden = config.integer("hidden_size")
    width = config.optional_integer("word_embed_proj_dim") or hidden
    norm = layer_norm if config.flag("layer_norm_elementwise_affine", True) else bare_norm
    before = config.flag("do_layer_norm_before", True)
    positions = config.integer("max_position_embeddings", 2048)
    projected = width != hidden
    final = before and not config.flag("_remove_final_layer_norm", False)
    after = (norm("final_layer_norm", hidden),) if final else ()
    text = Stack(
        "text",
        hidden,
        runs_of([_layer(config, hidden, norm, before)] * config.layers()),
        before=(linear("project_in", width, hidden, "other"),) if projected else (),
        after=(*after, *((linear("project_out", hidden, width, "other"),) if projected else ())),
    )
    table = embedding("embed_tokens", vocabulary_of(config), width)
    return language_model(
        config,
        text,
        embeddings=(table, embedding("embed_positions", positions + POSITION_OFFSET, hidden)),
        max_positions=positions,
        tied_by_default=True,
    )


READERS: dict[str, Reader] = {"opt": read_opt}
