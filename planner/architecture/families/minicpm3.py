"""MiniCPM3: latent attention in a dense model.

Source: transformers models/minicpm3.
"""

from __future__ import annotations

from planner.architecture.blocks import activation_of, decoder, filled, gated_mlp, pre_norm_layer
from planner.architecture.config import MAXIMUM_HEADS, Config
from planner.architecture.experts import latent_attention
from planner.architecture.reader import Reader
from planner.architecture.spec import ModelSpec


def read_minicpm3(config: Config) -> ModelSpec:
    """model_type minicpm3: the class defaults are the 4B model's; a missing `v_head_dim` is hidden / heads."""
    config = filled(config, kv_lora_rank=256, q_lora_rank=768, qk_nope_head_dim=64, qk_rope_head_dim=32)
    hidden = config.integer("hidden_size")
    if "v_head_dim" not in config:
        heads = config.integer("num_attention_heads", maximum=MAXIMUM_HEADS)
        config = filled(config.without("v_head_dim"), v_head_dim=hidden // heads)
    mlp_bias = config.flag("mlp_bias", False)
    activation = activation_of(config, "silu")
    mlp = gated_mlp(hidden, config.integer("intermediate_size"), bias=mlp_bias, activation=activation)
    layer = pre_norm_layer(hidden, latent_attention(config), mlp)
    return decoder(config, [layer] * config.layers(), tied_by_default=True)


READERS: dict[str, Reader] = {"minicpm3": read_minicpm3}
