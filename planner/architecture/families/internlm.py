"""InternLM2 (own code on the Hub) and InternLM3 (a Llama of other field names).

Source: the checkpoints' modeling_internlm2.py; transformers models/internlm3 (configuration only; the class is Llama).
"""

from __future__ import annotations

from planner.architecture.blocks import (
    called,
    decoder,
    filled,
    fused_projections,
    grouped_attention,
    head_dim_of,
    heads_of,
    llama_layer,
)
from planner.architecture.config import Config
from planner.architecture.reader import Reader
from planner.architecture.spec import ModelSpec


def read_internlm2(config: Config) -> ModelSpec:
    """model_type internlm2: one fused `wqkv`; `bias` gives the attention's projections biases."""
    heads, key_value_heads = heads_of(config)
    bias = config.flag("bias", False)
    attention = fused_projections(
        config.integer("hidden_size"),
        heads,
        key_value_heads,
        head_dim_of(config, heads),
        qkv_bias=bias,
        output_bias=bias,
        names=("wqkv", "wo"),
    )
    return decoder(config, [llama_layer(config, attention)] * config.layers())


def read_internlm3(config: Config) -> ModelSpec:
    """model_type internlm3: `qkv_bias` and `bias` are other names of Llama's two bias fields."""
    config = filled(config, num_key_value_heads=2, head_dim=128)
    bias = config.flag(called(config, "attention_bias", "qkv_bias"), False)
    mlp_bias = config.flag(called(config, "mlp_bias", "bias"), False)
    attention = grouped_attention(config, qkv_bias=bias, output_bias=bias)
    return decoder(config, [llama_layer(config, attention, mlp_bias=mlp_bias)] * config.layers())


READERS: dict[str, Reader] = {"internlm2": read_internlm2, "internlm3": read_internlm3}
