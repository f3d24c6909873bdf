"""Granite 3 (dense): Llama's block with four multipliers that have no parameters.

Source: transformers models/granite.
"""

from __future__ import annotations

from planner.architecture.blocks import decoder, grouped_attention, llama_layer
from planner.architecture.config import Config
from planner.architecture.reader import Reader
from planner.architecture.spec import ModelSpec


def read_granite(config: Config) -> ModelSpec:
    """model_type granite: `attention_bias` on all four projections, `mlp_bias` on the MLP."""
    bias = config.flag("attention_bias", False)
    attention = grouped_attention(config, qkv_bias=bias, output_bias=bias)
    layer = llama_layer(config, attention, mlp_bias=config.flag("mlp_bias", False))
    return decoder(config, [layer] * config.layers())


READERS: dict[str, Reader] = {"granite": read_granite}
