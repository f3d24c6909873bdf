"""GPT-Neo: GPT-2's outline with separate projections, every second layer attending to a window.

Source: transformers models/gpt_neo.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from planner.architecture.blocks import (
    activation_of,
    called,
    even_head_dim,
    language_model,
    layers_by,
    plain_mlp,
    projections,
    runs_of,
    sequential_layer,
    token_embedding,
)
from planner.architecture.config import MAXIMUM_HEADS, MAXIMUM_LAYERS, Config
from planner.architecture.reader import Reader
from planner.architecture.spec import Buffer, Layer, ModelSpec, Stack, embedding, layer_norm

CLASS_TYPES: list[Any] = [[["global", "local"], 12]]
ACCEPTED = "pairs of a list of global and local and a repeat count, which add up to the number of layers"


def attention_layers(config: Config, layers: int) -> list[str]:
    """`attention_types` such as [[["global", "local"], 12]] written out: one name per layer."""
    given = config.items("attention_types")
    names: list[str] = []
    for entry in CLASS_TYPES if given is None else given:
        names.extend(_repeated(config, entry))
        if len(names) > layers:
            raise config.error("attention_types", ACCEPTED)
    if len(names) != layers:
        raise config.error("attention_types", ACCEPTED)
    return names


def _repeated(config: Config, entry: object) -> list[str]:
    """One entry, such as [["global", "local"], 12], written out."""
    pair = cast(list[Any], entry) if isinstance(entry, list) else []
    if len(pair) != 2 or not isinstance(pair[0], list) or type(pair[1]) is not int:
        raise config.error("attention_types", ACCEPTED)
    kinds, times = cast(list[Any], pair[0]), pair[1]
    if not 0 <= times * len(kinds) <= MAXIMUM_LAYERS or any(kind not in ("global", "local") for kind in kinds):
        raise config.error("attention_types", ACCEPTED)
    return [str(kind) for kind in kinds] * times


def read_gpt_neo(config: Config) -> ModelSpec:
    """model_type gpt_neo: q, k and v without bias, the output projection with one; learned positions; tied head."""
    hidden = config.integer("hidden_size")
    heads_name = called(config, "num_heads", "num_attention_heads")
    heads = config.integer(heads_name, maximum=MAXIMUM_HEADS)
    head_dim = even_head_dim(config, hidden, heads, heads_name)
    window, positions = config.integer("window_size", 256), config.integer("max_position_embeddings", 2048)
    intermediate = config.optional_integer("intermediate_size") or 4 * hidden
    activation = activation_of(config, "gelu_new", "activation_function")
    mlp = plain_mlp(hidden, intermediate, activation=activation, names=("c_fc", "c_proj"))

    def build(kind: str) -> Layer:
        attention = projections(hidden, heads, heads, head_dim, output_bias=True)
        attention = replace(attention, position="none", window=window if kind == "local" else None)
        return sequential_layer(attention, mlp, (layer_norm("ln_1", hidden), layer_norm("ln_2", hidden)))

    layers = attention_layers(config, config.layers(called(config, "num_layers", "num_hidden_layers")))
    spec = language_model(
        config,
        Stack("text", hidden, runs_of(layers_by(layers, build)), after=(layer_norm("ln_f", hidden),)),
        embeddings=(token_embedding(config), embedding("wpe", positions, hidden)),
        max_positions=positions,
        tied_by_default=True,
    )
    return replace(spec, buffers=(Buffer("causal mask", positions**2, 1, len(layers)),))


READERS: dict[str, Reader] = {"gpt_neo": read_gpt_neo}
