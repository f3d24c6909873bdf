"""Vision and audio towers: stacks whose every parameter counts as "vision" or "audio", joined to a text model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import cast

from planner.architecture.blocks import fused_projections
from planner.architecture.config import MAXIMUM_HEADS, Config
from planner.architecture.spec import Attention, Component, Layer, Mlp, ModelSpec, Module, Stack, Sublayer

MAXIMUM_PATCH = 4096


def recolored(stack: Stack, component: Component) -> Stack:
    """The same stack with all its parameters counted under one component."""
    return cast(Stack, _recolored(stack, component))


def _recolored(value: object, component: Component) -> object:
    if isinstance(value, Module):
        return replace(value, component=component)
    if isinstance(value, tuple):
        return tuple(_recolored(entry, component) for entry in cast(tuple[object, ...], value))
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{item.name: _recolored(getattr(value, item.name), component) for item in fields(value)})
    return value


def with_tower(spec: ModelSpec, tower: Stack, component: Component = "vision") -> ModelSpec:
    """The text model with a tower in front of it."""
    return replace(spec, encoders=(*spec.encoders, recolored(tower, component)))


def patch_size(config: Config) -> int:
    """`patch_size`: pixels along a side of one patch."""
    return config.integer("patch_size", maximum=MAXIMUM_PATCH)


def merge_size(config: Config) -> int:
    """`spatial_merge_size`: patches along a side that are merged into one token."""
    return config.integer("spatial_merge_size", 2, maximum=64)


def frames_per_patch(config: Config) -> int:
    """`temporal_patch_size`: video frames in one patch; an image is repeated."""
    return config.integer("temporal_patch_size", 2, maximum=64)


def conv(name: str, outputs: int, inputs: int, kernel: tuple[int, ...], *, bias: bool) -> Module:
    """A convolution: weight [outputs, inputs, *kernel]."""
    return Module(name, "conv", "vision", (outputs, inputs, *kernel), outputs if bias else 0)


def channels_of(config: Config, name: str = "num_channels") -> int:
    """Colours of the image."""
    return config.integer(name, 3, maximum=1024)


def tower_heads(config: Config, hidden: int, name: str) -> tuple[int, int]:
    """(heads, head width) of a tower, whose heads must divide its width."""
    heads = config.integer(name, maximum=MAXIMUM_HEADS)
    if hidden % heads:
        raise config.error(name, f"a divisor of the tower's width {hidden}")
    return heads, hidden // heads


def fused_tower_attention(
    config: Config, hidden: int, *, qkv_bias: bool = True, output_bias: bool = True, key_value_heads: int | None = None
) -> Attention:
    """Bidirectional attention with one fused `qkv` and a `proj`, as the Qwen and GLM towers have it."""
    heads, head_dim = tower_heads(config, hidden, "num_heads")
    attention = fused_projections(
        hidden,
        heads,
        key_value_heads or heads,
        head_dim,
        qkv_bias=qkv_bias,
        output_bias=output_bias,
        names=("qkv", "proj"),
    )
    return replace(attention, causal=False)


def tower_layer(attention: Attention, mlp: Mlp, hidden: int, norm: Callable[[str, int], Module]) -> Layer:
    """norm -> attention, norm -> MLP."""
    return Layer((Sublayer(attention, norm("norm1", hidden)), Sublayer(mlp, norm("norm2", hidden))))
