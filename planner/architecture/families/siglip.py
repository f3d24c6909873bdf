"""The SigLIP vision tower, as Gemma 3 uses it. No model type of its own here: it has no text model to train.

Source: transformers models/siglip; arXiv 2303.15343.
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import activation_of, plain_mlp, projections, runs_of
from planner.architecture.config import Config
from planner.architecture.spec import Layer, Mlp, Module, Stack, Sublayer, embedding, layer_norm, linear, parameter
from planner.architecture.towers import grid_positions
from planner.architecture.vision import channels_of, conv, patch_size, tower_heads


def siglip_tower(config: Config, after: tuple[Module, ...]) -> Stack:
    """Patches with bias, learned positions, pre-norm layers with biases; `after` is the projector behind it."""
    hidden = config.integer("hidden_size")
    heads, head_dim = tower_heads(config, hidden, "num_attention_heads")
    attention = projections(hidden, heads, heads, head_dim, qkv_bias=True, output_bias=True)
    intermediate = config.integer("intermediate_size")
    mlp = plain_mlp(hidden, intermediate, activation=activation_of(config, "gelu_pytorch_tanh"))
    layer = Layer(
        (
            Sublayer(replace(attention, causal=False, position="none"), layer_norm("layer_norm1", hidden)),
            Sublayer(mlp, layer_norm("layer_norm2", hidden)),
        )
    )
    positions = grid_positions(config)
    size = patch_size(config)
    patches = conv("patch_embedding", hidden, channels_of(config), (size, size), bias=True)
    head = _pooling_head(hidden, mlp) if config.flag("vision_use_head", True) else ()
    return Stack(
        "vision",
        hidden,
        runs_of([layer] * config.layers()),
        before=(patches, embedding("position_embedding", positions, hidden)),
        after=(layer_norm("post_layernorm", hidden), *head, *after),
        positions_per_sample=positions,
    )


def _pooling_head(hidden: int, mlp: Mlp) -> tuple[Module, ...]:
    """Attention pooling: a probe that attends to the patches (torch's MultiheadAttention), a norm and an MLP."""
    inner = tuple(module for module in (mlp.up, mlp.down) if module is not None)
    return (
        parameter("head.probe", (1, 1, hidden), "vision"),
        Module("head.attention.in_proj", "parameter", "vision", (3 * hidden, hidden), 3 * hidden),
        linear("head.attention.out_proj", hidden, hidden, "vision", True),
        layer_norm("head.layernorm", hidden),
        *inner,
    )
