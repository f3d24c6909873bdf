"""Command-R, Aya 23 and Command-R7B / Command-A: parallel blocks behind a LayerNorm without bias, tied head.

Source: transformers models/cohere, models/cohere2.
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import (
    activation_of,
    decoder,
    even_head_dim,
    filled,
    full_every,
    gated_mlp,
    grouped_attention,
    heads_of,
    layers_by,
    norm_per_head,
    parallel_layer,
    weight_norm,
    windows_of,
)
from planner.architecture.config import Config
from planner.architecture.reader import Reader
from planner.architecture.spec import Attention, Layer, ModelSpec


def _layer(config: Config, attention: Attention) -> Layer:
    hidden = config.integer("hidden_size")
    mlp = gated_mlp(hidden, config.integer("intermediate_size"), activation=activation_of(config, "silu"))
    return parallel_layer(attention, mlp, weight_norm("input_layernorm", hidden))


def read_cohere(config: Config) -> ModelSpec:
    """model_type cohere: `use_qk_norm` (Command-R+) norms each head of q and k with weights of its own."""
    bias = config.flag("attention_bias", False)
    attention = grouped_attention(config, qkv_bias=bias, output_bias=bias)
    if config.flag("use_qk_norm", False):
        attention = replace(
            attention,
            q_norm=norm_per_head("q_norm", attention.query_heads, attention.head_dim),
            k_norm=norm_per_head("k_norm", attention.key_value_heads, attention.head_dim),
        )
    return decoder(config, [_layer(config, attention)] * config.layers(), tied_by_default=True, norm=weight_norm)


def read_cohere2(config: Config) -> ModelSpec:
    """model_type cohere2: three sliding layers with RoPE, then a full one without any position.

    configuration_cohere2.py sets head_dim to hidden / heads, whatever the config says.
    """
    config = filled(config, sliding_window=4096)
    bias = config.flag("attention_bias", False)
    heads, _ = heads_of(config)
    head_dim = even_head_dim(config, config.integer("hidden_size"), heads, "num_attention_heads")
    config = replace(config, values={**config.values, "head_dim": head_dim})
    pattern = 4 if "layer_types" in config else config.integer("sliding_window_pattern", 4)

    def build(window: int | None) -> Layer:
        attention = grouped_attention(config, qkv_bias=bias, output_bias=bias, window=window)
        return _layer(config, replace(attention, position="none" if window is None else "rope"))

    windows = windows_of(config, config.optional_integer("sliding_window"), full_every(pattern))
    return decoder(config, layers_by(windows, build), tied_by_default=True, norm=weight_norm)


READERS: dict[str, Reader] = {"cohere": read_cohere, "cohere2": read_cohere2}
