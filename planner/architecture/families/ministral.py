"""Ministral: Mistral's block with a choice of window per layer, and Ministral 3 without one.

Source: transformers models/ministral, models/ministral3.
"""

from __future__ import annotations

from planner.architecture.blocks import decoder, filled, grouped_attention, layers_by, llama_layer, windows_of
from planner.architecture.config import Config
from planner.architecture.reader import Reader
from planner.architecture.spec import Layer, ModelSpec


def read_ministral(config: Config) -> ModelSpec:
    """model_type ministral: `layer_types` says which layers slide; without it all do."""
    config = filled(config, num_key_value_heads=8, sliding_window=4096)
    window = config.optional_integer("sliding_window")

    def build(layer_window: int | None) -> Layer:
        return llama_layer(config, grouped_attention(config, window=layer_window))

    def rule(_index: int) -> str:
        return "full_attention" if window is None else "sliding_attention"

    return decoder(config, layers_by(windows_of(config, window, rule), build))


def read_ministral3(config: Config, top: Config | None = None) -> ModelSpec:
    """model_type ministral3: Llama's block; the whole model slides when `sliding_window` is given."""
    config = filled(config, num_key_value_heads=8, head_dim=128)
    attention = grouped_attention(config, window=config.optional_integer("sliding_window"))
    return decoder(config, [llama_layer(config, attention)] * config.layers(), top=top)


READERS: dict[str, Reader] = {"ministral": read_ministral, "ministral3": read_ministral3}
