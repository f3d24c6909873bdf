"""Qwen3-VL MoE and GLM-4.5V: the text models of Qwen3 MoE and GLM-4.5-Air behind a vision tower.

Source: transformers models/qwen3_vl_moe and glm4v_moe (modeling and configuration files); arXiv 2507.01006, 2511.21631.
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import decoder, gated_mlp, grouped_attention
from planner.architecture.config import Config
from planner.architecture.experts import expert_count, interleaved, routed, sparse_after_first, sparse_by_step
from planner.architecture.families.deepseek_v3 import deepseek_layers
from planner.architecture.families.glm4_moe import glm_attention
from planner.architecture.reader import Reader
from planner.architecture.spec import ModelSpec
from planner.architecture.towers import glm4v_tower, qwen3_tower


def read_qwen3_vl_moe(config: Config) -> ModelSpec:
    """model_type qwen3_vl_moe."""
    text = config.section("text_config")
    hidden, activation = text.integer("hidden_size"), text.text("hidden_act", "silu")
    bias = text.flag("attention_bias", False)
    attention = grouped_attention(text, qkv_bias=bias, output_bias=bias, qk_norm=True)
    sparse = routed(
        text,
        count=expert_count(text, "num_experts"),
        intermediate=text.integer("moe_intermediate_size"),
        activation=activation,
    )
    dense = gated_mlp(hidden, text.integer("intermediate_size"), activation=activation)
    layers = interleaved(hidden, attention, dense, sparse, sparse_by_step(text, text.layers()))
    tower = qwen3_tower(config.section("vision_config"), deepstack=True)
    return replace(decoder(text, layers, top=config), encoders=(tower,))


def read_glm4v_moe(config: Config) -> ModelSpec:
    """model_type glm4v_moe: q, k and v have biases unless the config says otherwise; tied if either level says so."""
    text = config.section("text_config")
    bias = text.flag("attention_bias", True)
    attention = glm_attention(replace(text, values={**text.values, "attention_bias": bias}), qk_norm=False)
    layers = deepseek_layers(text, attention, sparse_after_first(text, text.layers()))
    spec = decoder(text, layers, top=config)
    tied = spec.tied or ("tie_word_embeddings" in text and text.flag("tie_word_embeddings"))
    return replace(spec, tied=tied, encoders=(glm4v_tower(config.section("vision_config")),))


READERS: dict[str, Reader] = {"qwen3_vl_moe": read_qwen3_vl_moe, "glm4v_moe": read_glm4v_moe}
