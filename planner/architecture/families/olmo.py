"""OLMo 1, 2 and 3.

Source: transformers models/olmo, olmo2, olmo3; arXiv 2402.00838, 2501.00656.
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import (
    activation_of,
    bare_norm,
    clamps,
    decoder,
    filled,
    full_every,
    gated_mlp,
    grouped_attention,
    layers_by,
    post_norm_layer,
    sequential_layer,
    windows_of,
)
from planner.architecture.config import Config
from planner.architecture.reader import Reader
from planner.architecture.spec import Attention, Layer, Mlp, ModelSpec, rms_norm


def _mlp(config: Config) -> Mlp:
    return gated_mlp(
        config.integer("hidden_size"), config.integer("intermediate_size"), activation=activation_of(config, "silu")
    )


def read_olmo(config: Config) -> ModelSpec:
    """model_type olmo: Llama's layer with norms that have no parameters."""
    hidden = config.integer("hidden_size")
    bias = config.flag("attention_bias", False)
    attention = grouped_attention(config, qkv_bias=bias, output_bias=bias)
    attention = replace(attention, clamped=clamps(config, "clip_qkv"))
    norms = (bare_norm("input_layernorm", hidden), bare_norm("post_attention_layernorm", hidden))
    layer = sequential_layer(attention, _mlp(config), norms)
    return decoder(config, [layer] * config.layers(), norm=bare_norm)


def projection_normed(config: Config, window: int | None = None) -> Attention:
    """Attention with RMSNorms over the whole query and key projections."""
    bias = config.flag("attention_bias", False)
    attention = grouped_attention(config, qkv_bias=bias, output_bias=bias, window=window)
    return replace(
        attention,
        q_norm=rms_norm("q_norm", attention.query_heads * attention.head_dim),
        k_norm=rms_norm("k_norm", attention.key_value_heads * attention.head_dim),
        norm_over="projection",
    )


def read_olmo2(config: Config) -> ModelSpec:
    """model_type olmo2: norms after the sublayers, none before; QK norms over whole projections."""
    layer = post_norm_layer(config.integer("hidden_size"), projection_normed(config), _mlp(config))
    return decoder(config, [layer] * config.layers())


def read_olmo3(config: Config) -> ModelSpec:
    """model_type olmo3: as OLMo 2 with a sliding window in three layers of four."""
    config = filled(config, sliding_window=4096)
    hidden = config.integer("hidden_size")

    def build(window: int | None) -> Layer:
        return post_norm_layer(hidden, projection_normed(config, window), _mlp(config))

    return decoder(
        config, layers_by(windows_of(config, config.optional_integer("sliding_window"), full_every(4)), build)
    )


READERS: dict[str, Reader] = {"olmo": read_olmo, "olmo2": read_olmo2, "olmo3": read_olmo3}
