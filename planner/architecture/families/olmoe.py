"""OLMoE and FlexOlmo: QK norms over the whole projection, every feed-forward block a mixture of experts.

Source: transformers models/olmoe and flex_olmo (modeling files); arXiv 2409.02060, 2507.07024.
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import clamps, decoder, grouped_attention, pre_norm_layer
from planner.architecture.config import Config
from planner.architecture.experts import expert_count, routed
from planner.architecture.reader import Reader
from planner.architecture.spec import Attention, Layer, ModelSpec, Moe, Sublayer, rms_norm


def projection_norm_attention(config: Config, bias: bool) -> Attention:
    """Grouped attention whose QK norms have heads x head_dim and key/value heads x head_dim weights."""
    attention = grouped_attention(config, qkv_bias=bias, output_bias=bias)
    return replace(
        attention,
        q_norm=rms_norm("q_norm", attention.query_heads * attention.head_dim),
        k_norm=rms_norm("k_norm", attention.key_value_heads * attention.head_dim),
        norm_over="projection",
    )


def olmo_experts(config: Config) -> Moe:
    """`num_experts` experts of `intermediate_size` columns; the class default of that field names no model."""
    return routed(
        config,
        count=expert_count(config, "num_experts"),
        intermediate=config.integer("intermediate_size"),
        activation=config.text("hidden_act", "silu"),
    )


def read_olmoe(config: Config) -> ModelSpec:
    """model_type olmoe: norms before the blocks."""
    layer = pre_norm_layer(
        config.integer("hidden_size"),
        replace(
            projection_norm_attention(config, config.flag("attention_bias", False)),
            clamped=clamps(config, "clip_qkv"),
        ),
        olmo_experts(config),
    )
    return decoder(config, [layer] * config.layers())


def read_flex_olmo(config: Config) -> ModelSpec:
    """model_type flex_olmo: norms after the blocks, as in OLMo 2."""
    hidden = config.integer("hidden_size")
    layer = Layer(
        (
            Sublayer(
                projection_norm_attention(config, config.flag("attention_bias", False)),
                post_norm=rms_norm("post_attention_layernorm", hidden),
            ),
            Sublayer(olmo_experts(config), post_norm=rms_norm("post_feedforward_layernorm", hidden)),
        )
    )
    return decoder(config, [layer] * config.layers())


READERS: dict[str, Reader] = {"olmoe": read_olmoe, "flex_olmo": read_flex_olmo}
