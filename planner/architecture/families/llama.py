"""LLaMA 1 to 3 and the checkpoints that carry its model_type: Yi, TinyLlama, SmolLM2, SOLAR, DeepSeek-LLM, ...

Source: transformers models/llama; arXiv 2302.13971, 2307.09288.
"""

from __future__ import annotations

from planner.architecture.blocks import decoder as assemble
from planner.architecture.blocks import gated_mlp, grouped_attention, pre_norm_layer
from planner.architecture.config import Config
from planner.architecture.reader import Reader
from planner.architecture.spec import ModelSpec


def read_llama(config: Config) -> ModelSpec:
    """model_type llama: optional biases on all four projections (`attention_bias`) and on the MLP (`mlp_bias`)."""
    bias = config.flag("attention_bias", False)
    attention = grouped_attention(config, qkv_bias=bias, output_bias=bias)
    hidden = config.integer("hidden_size")
    mlp = gated_mlp(hidden, config.integer("intermediate_size"), bias=config.flag("mlp_bias", False))
    layer = pre_norm_layer(hidden, attention, mlp)
    return assemble(config, [layer] * config.layers())


READERS: dict[str, Reader] = {"llama": read_llama}
