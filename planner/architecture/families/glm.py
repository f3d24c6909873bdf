"""GLM-4 9B: Llama's block with a fused gate, biases on q, k and v, and RoPE on half of each head.

Source: transformers models/glm, models/glm4; arXiv 2406.12793.
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import (
    activation_of,
    decoder,
    filled,
    fused_gated_mlp,
    grouped_attention,
    pre_norm_layer,
)
from planner.architecture.config import Config
from planner.architecture.reader import Reader
from planner.architecture.rotary import rotary_dim_of
from planner.architecture.spec import Attention, Layer, Mlp, ModelSpec, Sublayer, rms_norm


def _blocks(config: Config) -> tuple[Attention, Mlp]:
    attention = grouped_attention(config, qkv_bias=config.flag("attention_bias", True))
    attention = replace(attention, rotary_dim=rotary_dim_of(config, attention.head_dim, 0.5))
    intermediate = config.integer("intermediate_size")
    mlp = fused_gated_mlp(config.integer("hidden_size"), intermediate, activation=activation_of(config, "silu"))
    return attention, mlp


def read_glm(config: Config) -> ModelSpec:
    """model_type glm: two norms a layer."""
    config = filled(config, num_key_value_heads=2, head_dim=128)
    attention, mlp = _blocks(config)
    return decoder(config, [pre_norm_layer(config.integer("hidden_size"), attention, mlp)] * config.layers())


def glm4_layers(config: Config) -> list[Layer]:
    """Four norms a layer: one before and one after each sublayer."""
    hidden = config.integer("hidden_size")
    attention, mlp = _blocks(config)
    layer = Layer(
        (
            Sublayer(attention, rms_norm("input_layernorm", hidden), rms_norm("post_self_attn_layernorm", hidden)),
            Sublayer(mlp, rms_norm("post_attention_layernorm", hidden), rms_norm("post_mlp_layernorm", hidden)),
        )
    )
    return [layer] * config.layers()


def read_glm4(config: Config) -> ModelSpec:
    """model_type glm4."""
    config = filled(config, num_key_value_heads=2, head_dim=128)
    return decoder(config, glm4_layers(config))


READERS: dict[str, Reader] = {"glm": read_glm, "glm4": read_glm4}
