"""Mistral 7B, Nemo, Small (text) and Large: Llama's block with a sliding window.

Source: transformers models/mistral; arXiv 2310.06825.
"""

from __future__ import annotations

from planner.architecture.blocks import decoder, gated_mlp, grouped_attention, pre_norm_layer
from planner.architecture.config import Config
from planner.architecture.reader import Reader
from planner.architecture.spec import ModelSpec

CLASS_WINDOW = 4096  # configuration_mistral.py: a config without the field slides; one with null does not
CLASS_KEY_VALUE_HEADS = 8


def read_mistral(config: Config, top: Config | None = None) -> ModelSpec:
    """model_type mistral: no biases; `head_dim` may differ from hidden / heads (Nemo)."""
    absent = "sliding_window" not in config.values
    window = config.integer("sliding_window", CLASS_WINDOW) if absent else config.optional_integer("sliding_window")
    attention = grouped_attention(config, window=window, missing=CLASS_KEY_VALUE_HEADS)
    hidden = config.integer("hidden_size")
    activation = config.text("hidden_act", "silu")
    layer = pre_norm_layer(
        hidden, attention, gated_mlp(hidden, config.integer("intermediate_size"), activation=activation)
    )
    return decoder(config, [layer] * config.layers(), top=top)


READERS: dict[str, Reader] = {"mistral": read_mistral}
