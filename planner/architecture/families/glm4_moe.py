"""GLM-4.5, GLM-4.5-Air, GLM-4.6 and INTELLECT-3: grouped attention, first dense layers, shared experts, MTP.

Source: transformers models/glm4_moe (modeling and configuration files); arXiv 2508.06471.
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import decoder, grouped_attention
from planner.architecture.config import Config
from planner.architecture.experts import sparse_after_first
from planner.architecture.families.deepseek_v3 import deepseek_layers, with_prediction_layers
from planner.architecture.reader import Reader
from planner.architecture.rotary import rotary_dim_of
from planner.architecture.spec import Attention, ModelSpec


def glm_attention(config: Config, qk_norm: bool) -> Attention:
    """q, k and v with biases (`attention_bias`), o without; half of each head turns; optional per-head QK norms."""
    attention = grouped_attention(config, qkv_bias=config.flag("attention_bias", False), qk_norm=qk_norm)
    return replace(attention, rotary_dim=rotary_dim_of(config, attention.head_dim, 0.5))


def read_glm4_moe(config: Config) -> ModelSpec:
    """model_type glm4_moe: QK norms if `use_qk_norm`; an MTP layer is stored with its own token table and head."""
    attention = glm_attention(config, config.flag("use_qk_norm", False))
    layers = deepseek_layers(config, attention, sparse_after_first(config, config.layers()))
    prediction_layer = deepseek_layers(config, attention, [True])[0]
    return with_prediction_layers(decoder(config, layers), config, prediction_layer, vocabulary_copies=2)


READERS: dict[str, Reader] = {"glm4_moe": read_glm4_moe}
