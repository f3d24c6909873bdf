"""MPT: GPT-2's block without any bias, with ALiBi.

Source: transformers models/mpt. The class reads neither `learned_pos_emb` nor `no_bias`: there is no position table,
no norm has a bias, and the MLP is always four times the width.
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import (
    called,
    clamps,
    even_head_dim,
    fused_projections,
    language_model,
    plain_mlp,
    runs_of,
    sequential_layer,
    vocabulary_of,
    weight_norm,
)
from planner.architecture.config import MAXIMUM_HEADS, Config
from planner.architecture.reader import Reader
from planner.architecture.spec import ModelSpec, Stack, embedding


def read_mpt(config: Config) -> ModelSpec:
    """model_type mpt."""
    hidden = config.integer(called(config, "d_model", "hidden_size"))
    heads_name = called(config, "n_heads", "num_attention_heads")
    heads = config.integer(heads_name, maximum=MAXIMUM_HEADS)
    head_dim = even_head_dim(config, hidden, heads, heads_name)
    attention = replace(
        fused_projections(hidden, heads, heads, head_dim, names=("Wqkv", "out_proj")),
        position="alibi",
        clamped="attn_config" in config and clamps(config.section("attn_config"), "clip_qkv"),
    )
    mlp = plain_mlp(hidden, 4 * hidden, bias=False, activation="gelu", names=("up_proj", "down_proj"))
    norms = (weight_norm("norm_1", hidden), weight_norm("norm_2", hidden))
    layer = sequential_layer(attention, mlp, norms)
    layers = config.layers(called(config, "n_layers", "num_hidden_layers"))
    return language_model(
        config,
        Stack("text", hidden, runs_of([layer] * layers), after=(weight_norm("norm_f", hidden),)),
        embeddings=(embedding("wte", vocabulary_of(config), hidden),),
        max_positions=config.optional_integer("max_seq_len"),
        tied_by_default=True,
    )


READERS: dict[str, Reader] = {"mpt": read_mpt}
