"""dots.llm1, Solar Open: grouped attention with DeepSeek's experts.

Source: transformers models/dots1 and solar_open (modeling and configuration files); arXiv 2506.05767.
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import decoder, filled, grouped_attention, windows_of
from planner.architecture.config import MAXIMUM_LAYERS, Config
from planner.architecture.experts import sparse_after_first
from planner.architecture.families.deepseek_v3 import deepseek_layers
from planner.architecture.reader import Reader
from planner.architecture.rotary import rotary_dim_of
from planner.architecture.spec import Layer, ModelSpec


def dots_windows(config: Config) -> list[int | None]:
    """Layers from `max_window_layers` (62 in the library) on slide, if there is a `sliding_window` at all."""
    window = config.optional_integer("sliding_window")
    name = "max_window_layers"
    first = config.integer(name, minimum=0, maximum=MAXIMUM_LAYERS) if name in config else 62

    def kind(index: int) -> str:
        return "sliding_attention" if window is not None and index >= first else "full_attention"

    return windows_of(config, window, kind)


def read_dots1(config: Config) -> ModelSpec:
    """model_type dots1: per-head QK norms, biases on all four projections if `attention_bias`."""
    bias = config.flag("attention_bias", False)
    windows, sparse = dots_windows(config), sparse_after_first(config, config.layers())
    built: dict[tuple[int | None, bool], Layer] = {}
    for window, is_sparse in dict.fromkeys(zip(windows, sparse, strict=True)):
        attention = grouped_attention(config, qkv_bias=bias, output_bias=bias, qk_norm=True, window=window)
        built[window, is_sparse] = deepseek_layers(config, attention, [is_sparse])[0]
    return decoder(config, [built[kind] for kind in zip(windows, sparse, strict=True)])


def read_solar_open(config: Config) -> ModelSpec:
    """model_type solar_open: q, k and v biases if `attention_bias`, no QK norms, every layer with experts."""
    attention = grouped_attention(filled(config, head_dim=128), qkv_bias=config.flag("attention_bias", False))
    attention = replace(attention, rotary_dim=rotary_dim_of(config, attention.head_dim))
    return decoder(config, deepseek_layers(config, attention, [True] * config.layers()))


READERS: dict[str, Reader] = {"dots1": read_dots1, "solar_open": read_solar_open}
