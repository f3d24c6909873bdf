"""Llama 4 Scout and Maverick: chunked attention with RoPE, every fourth layer without either, one shared expert.

Source: transformers models/llama4 (modeling and configuration files); Meta, "The Llama 4 herd" (2025).
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import decoder, gated_mlp, grouped_attention, layers_by, pre_norm_layer
from planner.architecture.config import MAXIMUM_LAYERS, Config
from planner.architecture.experts import chosen_experts, expert_count, shared_mlp
from planner.architecture.reader import Reader
from planner.architecture.spec import Attention, Layer, ModelSpec, Module, Moe, linear
from planner.architecture.towers import llama4_tower


def llama4_experts(config: Config) -> Moe:
    """Experts stored transposed ([E, h, 2i] and [E, i, h]) and a shared MLP of the same width; a linear router."""
    hidden, width = config.integer("hidden_size"), config.integer("intermediate_size")
    count, activation = expert_count(config, "num_local_experts"), config.text("hidden_act", "silu")
    return Moe(
        hidden=hidden,
        intermediate=width,
        expert_count=count,
        top_k=chosen_experts(config, "num_experts_per_tok", count),
        router=linear("router", hidden, count, "router"),
        experts=(
            Module("experts.gate_up_proj", "experts", "experts", (count, hidden, 2 * width)),
            Module("experts.down_proj", "experts", "experts", (count, width, hidden)),
        ),
        activation=activation,
        shared=shared_mlp(hidden, width, activation),
    )


def rope_layers(config: Config) -> list[bool]:
    """`no_rope_layers` (1 = with RoPE), or none in every `no_rope_layer_interval`-th layer."""
    count = config.layers()
    if config.values.get("no_rope_layers"):
        listed = config.items("no_rope_layers", count) or []
        if any(value not in (0, 1) for value in listed):
            raise config.error("no_rope_layers", "a list of 0 and 1")
        return [bool(value) for value in listed]
    every = config.integer("no_rope_layer_interval", 4, maximum=MAXIMUM_LAYERS)
    return [(index + 1) % every != 0 for index in range(count)]


def sparse_layers(config: Config) -> list[bool]:
    """`moe_layers` (a list of indices), or every `interleave_moe_layer_step`-th layer."""
    count, listed = config.layers(), config.items("moe_layers")
    if listed is None:
        step = config.integer("interleave_moe_layer_step", maximum=MAXIMUM_LAYERS)
        return [(index + 1) % step == 0 for index in range(count)]
    if not all(isinstance(index, int) and not isinstance(index, bool) for index in listed):
        raise config.error("moe_layers", "a list of layer indices")
    indices = frozenset(listed)
    return [index in indices for index in range(count)]


def llama4_attention(config: Config, rope: bool) -> Attention:
    """With RoPE: keys of one chunk of `attention_chunk_size`, QK norms without weights; else all keys, no norms."""
    bias = config.flag("attention_bias", False)
    attention = grouped_attention(config, qkv_bias=bias, output_bias=bias)
    if not rope:
        return replace(attention, position="none")
    return replace(
        attention,
        window=config.optional_integer("attention_chunk_size"),
        weightless_qk_norm=config.flag("use_qk_norm", True),
    )


def read_llama4_text(config: Config, top: Config | None = None) -> ModelSpec:
    """model_type llama4_text, and the text part of llama4; dense layers have `intermediate_size_mlp` columns.

    The text model is built as a class of its own, so its own config decides about tying.
    """
    hidden, activation = config.integer("hidden_size"), config.text("hidden_act", "silu")
    kinds = list(zip(rope_layers(config), sparse_layers(config), strict=True))

    def layer(kind: tuple[bool, bool]) -> Layer:
        if kind[1]:
            return pre_norm_layer(hidden, llama4_attention(config, kind[0]), llama4_experts(config))
        dense = gated_mlp(hidden, config.integer("intermediate_size_mlp"), activation=activation)
        return pre_norm_layer(hidden, llama4_attention(config, kind[0]), dense)

    spec = decoder(config, layers_by(kinds, layer), top=top)
    return replace(spec, tied=config.flag("tie_word_embeddings", False))


def read_llama4(config: Config) -> ModelSpec:
    """model_type llama4: text model and vision tower, as AutoModelForImageTextToText builds it."""
    spec = read_llama4_text(config.section("text_config"), config)
    return replace(spec, encoders=(llama4_tower(config.section("vision_config"), spec.hidden),))


READERS: dict[str, Reader] = {"llama4": read_llama4, "llama4_text": read_llama4_text}
