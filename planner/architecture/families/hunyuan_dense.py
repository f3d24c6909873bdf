"""Hunyuan 0.5B to 7B: Llama's block with QK norms.

Source: transformers models/hunyuan_v1_dense.
"""

from __future__ import annotations

from planner.architecture.blocks import decoder, grouped_attention, llama_layer
from planner.architecture.config import Config
from planner.architecture.reader import Reader
from planner.architecture.spec import ModelSpec


def read_hunyuan_v1_dense(config: Config) -> ModelSpec:
    """model_type hunyuan_v1_dense: `use_qk_norm` is not read by the class, which always norms q and k."""
    bias = config.flag("attention_bias", False)
    attention = grouped_attention(config, qkv_bias=bias, output_bias=bias, qk_norm=True)
    return decoder(config, [llama_layer(config, attention)] * config.layers())


READERS: dict[str, Reader] = {"hunyuan_v1_dense": read_hunyuan_v1_dense}
