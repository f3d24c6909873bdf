"""GPT-2, and GPT-BigCode (SantaCoder, StarCoder), which is GPT-2 with one key/value head.

The library holds GPT-2's projections as Conv1D, a linear layer with its weight stored as [in, out]; PEFT's
"all-linear" reaches it like nn.Linear.

Source: transformers models/gpt2, models/gpt_bigcode, pytorch_utils.py.
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import (
    activation_of,
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
from planner.architecture.spec import Buffer, ModelSpec, Stack, embedding, layer_norm


def read_gpt2(config: Config) -> ModelSpec:
    """model_type gpt2: learned positions, LayerNorm, biases everywhere, tied head."""
    return _decoder(config, multi_query=False, activation="gelu_new")


def read_gpt_bigcode(config: Config) -> ModelSpec:
    """model_type gpt_bigcode: GPT-2 with a causal mask; `multi_query` (on by default) leaves one key/value head."""
    spec = _decoder(config, multi_query=config.flag("multi_query", True), activation="gelu_pytorch_tanh")
    return replace(spec, buffers=(Buffer("causal mask", (spec.max_positions or 0) ** 2, 1),))


def _decoder(config: Config, multi_query: bool, activation: str) -> ModelSpec:
    hidden = config.integer(called(config, "n_embd", "hidden_size"))
    heads_name = called(config, "n_head", "num_attention_heads")
    heads = config.integer(heads_name, maximum=MAXIMUM_HEADS)
    positions = config.integer(called(config, "n_positions", "max_position_embeddings"), 1024)
    head_dim = even_head_dim(config, hidden, heads, heads_name)
    attention = fused_projections(
        hidden,
        heads,
        1 if multi_query else heads,
        head_dim,
        qkv_bias=True,
        output_bias=True,
        names=("c_attn", "c_proj"),
    )
    mlp = plain_mlp(
        hidden,
        config.optional_integer("n_inner") or 4 * hidden,
        activation=activation_of(config, activation, "activation_function"),
        names=("c_fc", "c_proj"),
    )
    norms = (layer_norm("ln_1", hidden), layer_norm("ln_2", hidden))
    layer = sequential_layer(replace(attention, position="none"), mlp, norms)
    layers = config.layers(called(config, "n_layer", "num_hidden_layers"))
    return language_model(
        config,
        Stack("text", hidden, runs_of([layer] * layers), after=(layer_norm("ln_f", hidden),)),
        embeddings=(embedding("wte", vocabulary_of(config), hidden), embedding("wpe", positions, hidden)),
        max_positions=positions,
        tied_by_default=True,
    )


READERS: dict[str, Reader] = {"gpt2": read_gpt2, "gpt_bigcode": read_gpt_bigcode}
