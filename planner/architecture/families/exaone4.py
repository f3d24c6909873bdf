"""EXAONE 4.0: norms after the sublayers, QK norms, and position only in the sliding layers.

Source: transformers models/exaone4; arXiv 2507.11407.
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import (
    activation_of,
    decoder,
    filled,
    full_every,
    gated_mlp,
    grouped_attention,
    layers_by,
    post_norm_layer,
    windows_of,
)
from planner.architecture.config import Config
from planner.architecture.reader import Reader
from planner.architecture.spec import Layer, ModelSpec


def exaone4_layers(config: Config) -> list[Layer]:
    """Llama's projections with norms after; a model that slides has RoPE in its sliding layers only."""
    config = filled(config, num_key_value_heads=32, sliding_window=4096)
    hidden = config.integer("hidden_size")
    model_window = config.optional_integer("sliding_window")
    mlp = gated_mlp(hidden, config.integer("intermediate_size"), activation=activation_of(config, "silu"))

    def build(window: int | None) -> Layer:
        rope = model_window is None or window is not None
        attention = grouped_attention(config, qk_norm=True, window=window)
        return post_norm_layer(hidden, replace(attention, position="rope" if rope else "none"), mlp)

    if model_window is None:
        return [build(None)] * config.layers()
    pattern = 1 if "layer_types" in config else config.integer("sliding_window_pattern", 4)
    return layers_by(windows_of(config, model_window, full_every(pattern)), build)


def read_exaone4(config: Config) -> ModelSpec:
    """model_type exaone4; a pattern in letters ("LLLG") comes with `layer_types`, which then count."""
    return decoder(config, exaone4_layers(config))


READERS: dict[str, Reader] = {"exaone4": read_exaone4}
