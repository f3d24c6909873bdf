"""Seed-OSS: Llama's block with biases on q, k and v.

Source: transformers models/seed_oss.
"""

from __future__ import annotations

from planner.architecture.blocks import decoder, filled, grouped_attention, llama_layer
from planner.architecture.config import Config
from planner.architecture.reader import Reader
from planner.architecture.spec import ModelSpec


def read_seed_oss(config: Config) -> ModelSpec:
    """model_type seed_oss: `attention_bias` (on by default) for q, k, v; `attention_out_bias` for o."""
    config = filled(config, num_key_value_heads=8, head_dim=128)
    qkv_bias, output_bias = config.flag("attention_bias", True), config.flag("attention_out_bias", False)
    attention = grouped_attention(config, qkv_bias=qkv_bias, output_bias=output_bias)
    layer = llama_layer(config, attention, mlp_bias=config.flag("mlp_bias", False))
    return decoder(config, [layer] * config.layers())


READERS: dict[str, Reader] = {"seed_oss": read_seed_oss}
