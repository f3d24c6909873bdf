"""DeepSeek MoE 16B (model_type deepseek) and DeepSeek V2, V2-Lite.

Source: transformers models/deepseek_v2 (modeling and configuration files); arXiv 2401.06066, 2405.04434. The first has
custom code on the Hub; its shapes are Llama's attention with DeepSeek's experts, which gives its published count.
"""

from __future__ import annotations

from planner.architecture.blocks import decoder, grouped_attention
from planner.architecture.config import Config
from planner.architecture.experts import latent_attention, sparse_after_first
from planner.architecture.families.deepseek_v3 import deepseek_layers
from planner.architecture.reader import Reader
from planner.architecture.spec import ModelSpec


def read_deepseek(config: Config) -> ModelSpec:
    """model_type deepseek: grouped attention; `moe_layer_freq` other than 1 is not modelled."""
    if config.integer("moe_layer_freq", 1) != 1:
        raise config.error("moe_layer_freq", "1")
    bias = config.flag("attention_bias", False)
    attention = grouped_attention(config, qkv_bias=bias, output_bias=bias)
    return decoder(config, deepseek_layers(config, attention, sparse_after_first(config, config.layers())))


def read_deepseek_v2(config: Config) -> ModelSpec:
    """model_type deepseek_v2: latent attention; V2-Lite has `q_lora_rank: null`, which must be said."""
    if "q_lora_rank" not in config.values:
        config.integer("q_lora_rank")
    if "mlp_bias" in config and config.flag("mlp_bias"):
        raise config.error("mlp_bias", "false")
    layers = deepseek_layers(config, latent_attention(config), sparse_after_first(config, config.layers()))
    return decoder(config, layers)


READERS: dict[str, Reader] = {"deepseek": read_deepseek, "deepseek_v2": read_deepseek_v2}
