"""Qwen1.5, Qwen2, Qwen2.5 and the distills of DeepSeek-R1 on them.

Source: transformers models/qwen2; arXiv 2407.10671.
"""

from __future__ import annotations

from planner.architecture.blocks import decoder, gated_mlp, grouped_attention, layers_by, pre_norm_layer, windows_of
from planner.architecture.config import Config
from planner.architecture.reader import Reader
from planner.architecture.spec import Layer, ModelSpec

CLASS_WINDOW = 4096
CLASS_WINDOW_LAYERS = 28


def qwen_windows(config: Config) -> list[int | None]:
    """Window of each layer: only with `use_sliding_window`, and then from layer `max_window_layers` on.

    The name misleads: configuration_qwen2.py gives the window to the layers from that index on, not to those before.
    """
    if not config.flag("use_sliding_window", False):
        return [None] * config.layers()
    absent = "sliding_window" not in config.values
    window = config.integer("sliding_window", CLASS_WINDOW) if absent else config.optional_integer("sliding_window")
    first = config.layers("max_window_layers", CLASS_WINDOW_LAYERS) if window is not None else 0
    return windows_of(config, window, lambda index: "sliding_attention" if index >= first else "full_attention")


def qwen_layers(config: Config, *, qkv_bias: bool, output_bias: bool = False, qk_norm: bool = False) -> list[Layer]:
    """Llama's layers with Qwen's biases, QK norms and windows."""
    hidden = config.integer("hidden_size")
    mlp = gated_mlp(hidden, config.integer("intermediate_size"), activation=config.text("hidden_act", "silu"))

    def build(window: int | None) -> Layer:
        attention = grouped_attention(
            config, qkv_bias=qkv_bias, output_bias=output_bias, qk_norm=qk_norm, window=window, missing="required"
        )
        return pre_norm_layer(hidden, attention, mlp)

    return layers_by(qwen_windows(config), build)


def read_qwen2(config: Config) -> ModelSpec:
    """model_type qwen2: q, k and v always have a bias (no field says so), o has none."""
    return decoder(config, qwen_layers(config, qkv_bias=True))


READERS: dict[str, Reader] = {"qwen2": read_qwen2}
