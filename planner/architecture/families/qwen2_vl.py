"""Qwen2-VL and Qwen2.5-VL: Qwen2 behind a vision tower that works at the image's own resolution.

Source: transformers models/qwen2_vl, models/qwen2_5_vl; arXiv 2409.12191, 2502.13923.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from planner.architecture.blocks import activation_of, decoder, filled, gated_mlp, plain_mlp, runs_of, text_of
from planner.architecture.config import Config
from planner.architecture.families.qwen2 import qwen_layers
from planner.architecture.reader import Reader
from planner.architecture.spec import Layer, ModelSpec, Module, Stack, layer_norm, linear, rms_norm
from planner.architecture.vision import (
    channels_of,
    conv,
    frames_per_patch,
    fused_tower_attention,
    merge_size,
    patch_size,
    tower_layer,
    with_tower,
)


def patch_embedding(config: Config, hidden: int) -> Module:
    """A convolution over frames and pixels without bias: [hidden, channels, frames, patch, patch]."""
    size = patch_size(config)
    return conv(
        "patch_embed.proj",
        hidden,
        channels_of(config, "in_channels"),
        (frames_per_patch(config), size, size),
        bias=False,
    )


def merger(config: Config, hidden: int, outputs: int, norm: Callable[[str, int], Module]) -> tuple[Module, ...]:
    """A norm, then an MLP from `spatial_merge_size` squared patches to one token of the text model."""
    merged = hidden * merge_size(config) ** 2
    return (
        norm("merger.ln_q", hidden),
        linear("merger.mlp.0", merged, merged, "vision", True),
        linear("merger.mlp.2", merged, outputs, "vision", True),
    )


def _tower(config: Config, layer: Layer, hidden: int, outputs: int, norm: Callable[[str, int], Module]) -> Stack:
    return Stack(
        "vision",
        hidden,
        runs_of([layer] * config.layers("depth")),
        before=(patch_embedding(config, hidden),),
        after=merger(config, hidden, outputs, norm),
    )


def qwen2_vl_tower(config: Config) -> Stack:
    """LayerNorm and a plain MLP; `embed_dim` is its width, `hidden_size` that of the text model."""
    hidden = config.integer("embed_dim")
    inner = int(hidden * config.number("mlp_ratio", 4, maximum=1024))
    mlp = plain_mlp(hidden, inner, activation=activation_of(config, "quick_gelu"))
    layer = tower_layer(fused_tower_attention(config, hidden), mlp, hidden, layer_norm)
    return _tower(config, layer, hidden, config.integer("hidden_size"), layer_norm)


def qwen2_5_vl_tower(config: Config, key_value_heads: int | None = None) -> Stack:
    """RMSNorm and a gated MLP with biases; layers but `fullatt_block_indexes` attend inside windows of pixels.

    The windows save time, not memory that counts: the tower is planned as if it attended to everything.
    """
    config = filled(config, num_heads=16, depth=32, patch_size=14)
    hidden = config.integer("hidden_size")
    mlp = gated_mlp(hidden, config.integer("intermediate_size"), bias=True, activation=activation_of(config, "silu"))
    attention = fused_tower_attention(config, hidden, key_value_heads=key_value_heads)
    layer = tower_layer(attention, mlp, hidden, rms_norm)
    return _tower(config, layer, hidden, config.integer("out_hidden_size"), rms_norm)


def qwen2_vl_text(config: Config) -> ModelSpec:
    """The text model: Qwen2's, at the top level of older configs or under `text_config`.

    The class divides hidden by heads whatever `head_dim` says, and ties the head if either level asks for it.
    """
    text = filled(text_of(config).without("head_dim"), max_window_layers=80)
    spec = decoder(text, qwen_layers(text, qkv_bias=True), top=config)
    return replace(spec, tied=spec.tied or text.flag("tie_word_embeddings", False))


def read_qwen2_vl(config: Config) -> ModelSpec:
    """model_type qwen2_vl."""
    return with_tower(qwen2_vl_text(config), qwen2_vl_tower(config.section("vision_config")))


def read_qwen2_5_vl(config: Config) -> ModelSpec:
    """model_type qwen2_5_vl."""
    return with_tower(qwen2_vl_text(config), qwen2_5_vl_tower(config.section("vision_config")))


READERS: dict[str, Reader] = {"qwen2_vl": read_qwen2_vl, "qwen2_5_vl": read_qwen2_5_vl}
