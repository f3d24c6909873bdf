"""K-EXAONE: windowed layers with RoPE, full layers without, per-head QK norms, shared experts, a dense MTP layer.

Source: transformers models/exaone_moe (modeling and configuration files).
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import decoder, gated_mlp, grouped_attention, layers_by, pre_norm_layer, windows_of
from planner.architecture.config import MAXIMUM_LAYERS, Config
from planner.architecture.experts import first_dense, sparse_by_type
from planner.architecture.families.deepseek_v3 import deepseek_experts, deepseek_layers, with_prediction_layers
from planner.architecture.reader import Reader
from planner.architecture.spec import Attention, Layer, ModelSpec


def exaone_windows(config: Config) -> list[int | None]:
    """`layer_types`, or full attention in every `sliding_window_pattern`-th layer; null window: all full."""
    window = config.optional_integer("sliding_window")
    if window is None:
        return [None] * config.layers()
    every = 0
    if "layer_types" not in config:
        every = config.integer("sliding_window_pattern", 4, maximum=MAXIMUM_LAYERS)
    return windows_of(config, window, lambda index: "sliding_attention" if (index + 1) % every else "full_attention")


def exaone_attention(config: Config, window: int | None) -> Attention:
    """Grouped attention without biases; where some layers slide, the full ones see no positions."""
    attention = grouped_attention(config, qk_norm=True, window=window)
    no_positions = window is None and "sliding_window" in config
    return replace(attention, position="none" if no_positions else "rope")


def read_exaone_moe(config: Config) -> ModelSpec:
    """model_type exaone_moe."""
    experts = deepseek_experts(config, "num_experts", "num_shared_experts")
    windows = exaone_windows(config)
    sparse = sparse_by_type(config, len(windows), first_dense(config, 1) if "mlp_layer_types" not in config else 0)

    def layer(kind: tuple[int | None, bool]) -> Layer:
        return deepseek_layers(config, exaone_attention(config, kind[0]), [kind[1]], experts)[0]

    spec = decoder(config, layers_by(list(zip(windows, sparse, strict=True)), layer))
    dense = gated_mlp(spec.hidden, config.integer("intermediate_size"))
    prediction_layer = pre_norm_layer(spec.hidden, exaone_attention(config, None), dense)
    return with_prediction_layers(spec, config, prediction_layer, vocabulary_copies=0)


READERS: dict[str, Reader] = {"exaone_moe": read_exaone_moe}
