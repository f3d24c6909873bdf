"""BitNet b1.58: Llama's block with a norm before each output projection. Trained in 16 bit.

Source: transformers models/bitnet; arXiv 2504.12285.
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import decoder, filled, gated_mlp, grouped_attention, pre_norm_layer
from planner.architecture.config import Config
from planner.architecture.reader import Reader
from planner.architecture.spec import ModelSpec, rms_norm


def read_bitnet(config: Config) -> ModelSpec:
    """model_type bitnet: `attn_sub_norm` over the attention's output, `ffn_sub_norm` over the MLP's inner width."""
    config = filled(config, num_key_value_heads=5, hidden_act="relu2")
    hidden, intermediate = config.integer("hidden_size"), config.integer("intermediate_size")
    bias = config.flag("attention_bias", False)
    attention = grouped_attention(config, qkv_bias=bias, output_bias=bias)
    mlp = gated_mlp(hidden, intermediate, activation=config.text("hidden_act"))
    layer = pre_norm_layer(
        hidden,
        replace(attention, extra=(rms_norm("attn_sub_norm", hidden),)),
        replace(mlp, extra=(rms_norm("ffn_sub_norm", intermediate),)),
    )
    return decoder(config, [layer] * config.layers())


READERS: dict[str, Reader] = {"bitnet": read_bitnet}
