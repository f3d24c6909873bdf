"""GPT-J: attention and MLP side by side behind one LayerNorm, RoPE on a part of each head, a head with bias.

Source: transformers models/gptj.
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import (
    activation_of,
    called,
    even_head_dim,
    language_model,
    parallel_layer,
    plain_mlp,
    projections,
    runs_of,
    vocabulary_of,
)
from planner.architecture.config import MAXIMUM_HEADS, Config
from planner.architecture.reader import Reader
from planner.architecture.spec import ModelSpec, Stack, embedding, layer_norm


def read_gptj(config: Config) -> ModelSpec:
    """model_type gptj: no biases in attention, biases in the MLP and the head."""
    hidden = config.integer(called(config, "n_embd", "hidden_size"))
    heads_name = called(config, "n_head", "num_attention_heads")
    heads = config.integer(heads_name, maximum=MAXIMUM_HEADS)
    attention = projections(hidden, heads, heads, even_head_dim(config, hidden, heads, heads_name))
    attention = replace(attention, rotary_dim=config.integer("rotary_dim", 64))
    mlp = plain_mlp(
        hidden,
        config.optional_integer("n_inner") or 4 * hidden,
        activation=activation_of(config, "gelu_new", "activation_function"),
        names=("fc_in", "fc_out"),
    )
    layer = parallel_layer(attention, mlp, layer_norm("ln_1", hidden))
    layers = config.layers(called(config, "n_layer", "num_hidden_layers"))
    return language_model(
        config,
        Stack("text", hidden, runs_of([layer] * layers), after=(layer_norm("ln_f", hidden),)),
        embeddings=(embedding("wte", vocabulary_of(config), hidden),),
        max_positions=config.optional_integer(called(config, "n_positions", "max_position_embeddings")),
        tied_by_default=False,
        head_bias=True,
    )


READERS: dict[str, Reader] = {"gptj": read_gptj}
