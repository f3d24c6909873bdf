"""The vision and audio towers of Gemma 4.

Source: transformers models/gemma4 (Gemma4VisionModel, Gemma4AudioModel); the audio tower is a conformer, arXiv
2303.01037.
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import (
    activation_of,
    bare_rms_norm,
    gated_mlp,
    plain_mlp,
    projections,
    runs_of,
    weight_norm,
)
from planner.architecture.config import MAXIMUM_HEADS, Config
from planner.architecture.spec import (
    Attention,
    Layer,
    Module,
    Stack,
    StateSpace,
    Sublayer,
    linear,
    parameter,
    rms_norm,
)
from planner.architecture.vision import patch_size, tower_heads

CONTEXT = (("left", 13), ("right", 0))
SUBSAMPLING_KERNEL = 3  # modeling_gemma4.py: two convolutions of 3 x 3 with stride 2


def vision_tower(config: Config, text_hidden: int, tokens: int | None) -> Stack:
    """Sandwich layers with QK norms over unfolded patches; positions are two tables, one per axis."""
    hidden = config.integer("hidden_size")
    heads = config.integer("num_attention_heads", maximum=MAXIMUM_HEADS)
    key_value_heads = config.integer("num_key_value_heads", heads, maximum=MAXIMUM_HEADS)
    if heads % key_value_heads:
        raise config.error("num_key_value_heads", f"a divisor of num_attention_heads {heads}")
    head_dim = config.integer("head_dim", 64)
    attention = replace(
        projections(hidden, heads, key_value_heads, head_dim),
        q_norm=rms_norm("q_norm", head_dim),
        k_norm=rms_norm("k_norm", head_dim),
        extra=(bare_rms_norm("v_norm"),),
        causal=False,
    )
    activation = activation_of(config, "gelu_pytorch_tanh", "hidden_activation")
    mlp = gated_mlp(hidden, config.integer("intermediate_size"), activation=activation)
    layer = Layer(
        (
            Sublayer(attention, rms_norm("input_layernorm", hidden), rms_norm("post_attention_layernorm", hidden)),
            Sublayer(
                mlp, rms_norm("pre_feedforward_layernorm", hidden), rms_norm("post_feedforward_layernorm", hidden)
            ),
        )
    )
    table = (2, config.integer("position_embedding_size", 10_240), hidden)
    pooled = config.integer("pooling_kernel_size", 3, maximum=64) ** 2
    return Stack(
        "vision",
        hidden,
        runs_of([layer] * config.layers()),
        before=(
            linear("patch_embedder.input_proj", 3 * patch_size(config) ** 2, hidden, "vision"),
            parameter("patch_embedder.position_embedding_table", table, "vision"),
        ),
        after=(bare_rms_norm("embed_vision.norm"), linear("embed_vision.projection", hidden, text_hidden, "vision")),
        positions_per_sample=tokens * pooled if tokens else None,
    )


def local_attention(hidden: int, heads: tuple[int, int], window: int, relative: str) -> Attention:
    """Attention in chunks with soft-capped scores, a projected relative position and a scale per channel of a head."""
    count, head_dim = heads
    return replace(
        projections(hidden, count, count, head_dim),
        position="relative",
        causal=False,
        softcap=True,
        window=window,
        extra=(linear(relative, hidden, count * head_dim, "audio"), parameter("per_dim_scale", (head_dim,), "audio")),
    )


def _convolution(hidden: int, kernel: int) -> StateSpace:
    """Linear to twice the width with a gate, a convolution per channel, a norm, and linear back."""
    modules = (
        linear("linear_start", hidden, 2 * hidden, "audio"),
        Module("depthwise_conv1d", "conv", "audio", (hidden, 1, kernel)),
        rms_norm("conv_norm", hidden),
        linear("linear_end", hidden, hidden, "audio"),
    )
    return StateSpace("short_conv", modules, inner=hidden, kernel=kernel)


def conformer_layer(hidden: int, attention: Attention, kernel: int, activation: str) -> Layer:
    """Half an MLP, attention, convolution, half an MLP, a norm."""
    mlp = plain_mlp(hidden, 4 * hidden, bias=False, activation=activation)
    half = Sublayer(mlp, rms_norm("pre_layer_norm", hidden), rms_norm("post_layer_norm", hidden))
    return Layer(
        (
            half,
            Sublayer(attention, rms_norm("norm_pre_attn", hidden), rms_norm("norm_post_attn", hidden)),
            Sublayer(_convolution(hidden, kernel), rms_norm("pre_layer_norm", hidden)),
            half,
        ),
        extra=(rms_norm("norm_out", hidden),),
    )


def audio_tower(config: Config, text_hidden: int) -> Stack:
    """A conformer behind two strided convolutions; its output is projected twice."""
    hidden = config.integer("hidden_size")
    left, right = (config.integer(f"attention_context_{side}", default, minimum=0) for side, default in CONTEXT)
    window = config.integer("attention_chunk_size", 12) + left + right
    heads = tower_heads(config, hidden, "num_attention_heads")
    kernel = config.integer("conv_kernel_size", 5, maximum=4096)
    attention = local_attention(hidden, heads, window, "relative_k_proj")
    layer = conformer_layer(hidden, attention, kernel, activation_of(config, "silu"))
    outputs = config.integer("output_proj_dims", 1536)
    return Stack(
        "audio",
        hidden,
        runs_of([layer] * config.layers()),
        before=_subsampling(config, hidden),
        after=(
            linear("output_proj", hidden, outputs, "audio", True),
            bare_rms_norm("embed_audio.norm"),
            linear("embed_audio.projection", outputs, text_hidden, "audio"),
        ),
    )


def _subsampling(config: Config, hidden: int) -> tuple[Module, ...]:
    channels = config.items("subsampling_conv_channels", 2) or [128, 32]
    if any(type(entry) is not int or not 1 <= entry <= 2**16 for entry in channels):
        raise config.error("subsampling_conv_channels", "two channel counts from 1 to 65536")
    first, second = channels
    square = (SUBSAMPLING_KERNEL, SUBSAMPLING_KERNEL)
    return (
        Module("layer0.conv", "conv", "audio", (first, 1, *square)),
        weight_norm("layer0.norm", first),
        Module("layer1.conv", "conv", "audio", (second, first, *square)),
        weight_norm("layer1.norm", second),
        linear("input_proj_linear", first // 4 * second, hidden, "audio"),
    )
