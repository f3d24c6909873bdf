"""Gemma 4: Gemma 3's sandwich layers with two head widths, shared keys and values, per-layer embeddings or experts.

Source: transformers models/gemma4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from planner.architecture.blocks import (
    activation_of,
    bare_rms_norm,
    decoder,
    filled,
    full_every,
    gated_mlp,
    layer_types_of,
    layers_by,
    projections,
)
from planner.architecture.config import MAXIMUM_HEADS, MAXIMUM_VOCABULARY, Config
from planner.architecture.experts import chosen_experts, expert_count, fused_experts
from planner.architecture.families.gemma4_towers import audio_tower, vision_tower
from planner.architecture.reader import Reader
from planner.architecture.spec import (
    Attention,
    Layer,
    Mlp,
    ModelSpec,
    Moe,
    Parallel,
    PerLayerInput,
    Sublayer,
    embedding,
    linear,
    parameter,
    rms_norm,
)
from planner.architecture.vision import with_tower

FULL = "full_attention"


@dataclass(frozen=True)
class _Kind:
    """What tells one layer from another."""

    full: bool
    reuses: bool
    hands_on: bool


def kinds_of(config: Config) -> list[_Kind]:
    """Five sliding layers and a full one; the last is always full; the last `num_kv_shared_layers` reuse keys.

    They are those of the last layer of their type before them.
    """
    types = layer_types_of(config, (FULL, "sliding_attention"), full_every(6))
    if types:
        types[-1] = FULL
    shared = config.integer("num_kv_shared_layers", 0, minimum=0)
    if shared and shared >= len(types):
        raise config.error("num_kv_shared_layers", f"fewer than the {len(types)} layers")
    first = len(types) - shared
    own = types[:first]
    handing = {len(own) - 1 - own[::-1].index(name) for name in set(own) & set(types[first:])}
    return [_Kind(name == FULL, index >= first, index in handing) for index, name in enumerate(types)]


def _attention(config: Config, kind: _Kind) -> Attention:
    """Full layers have heads of `global_head_dim`, and with `attention_k_eq_v` no value projection of their own."""
    equal = kind.full and config.flag("attention_k_eq_v", False)
    heads = config.integer("num_attention_heads", maximum=MAXIMUM_HEADS)
    field = "num_global_key_value_heads" if equal and "num_global_key_value_heads" in config else "num_key_value_heads"
    key_value_heads = config.integer(field, maximum=MAXIMUM_HEADS)
    if heads % key_value_heads:
        raise config.error(field, f"a divisor of num_attention_heads {heads}")
    head_dim = config.integer("global_head_dim", 512) if kind.full else config.integer("head_dim")
    bias = config.flag("attention_bias", False)
    base = projections(config.integer("hidden_size"), heads, key_value_heads, head_dim, qkv_bias=bias, output_bias=bias)
    return replace(
        base,
        k=None if kind.reuses else base.k,
        v=None if kind.reuses or equal else base.v,
        q_norm=rms_norm("q_norm", head_dim),
        k_norm=None if kind.reuses else rms_norm("k_norm", head_dim),
        window=None if kind.full else _window(config),
        causal=config.values.get("use_bidirectional_attention") != "all",
        hands_on=kind.hands_on,
        extra=() if kind.reuses else (bare_rms_norm("v_norm"),),
    )


def _window(config: Config) -> int:
    window = config.integer("sliding_window", 512)
    return window // 2 + 1 if config.values.get("use_bidirectional_attention") == "all" else window


def _experts(config: Config, hidden: int, activation: str) -> Moe:
    count = expert_count(config, "num_experts")
    inner = config.integer("moe_intermediate_size")
    return Moe(
        hidden=hidden,
        intermediate=inner,
        expert_count=count,
        top_k=chosen_experts(config, "top_k_experts", count),
        router=linear("router.proj", hidden, count, "router"),
        experts=fused_experts(hidden, inner, count),
        activation=activation,
        extra=(
            parameter("router.scale", (hidden,), "router"),
            parameter("router.per_expert_scale", (count,), "router"),
        ),
    )


def _feed_forward(config: Config, hidden: int, mlp: Mlp, activation: str) -> Sublayer:
    """The MLP between two norms; with `enable_moe_block` routed experts run beside it and are added before the last."""
    before, after = rms_norm("pre_feedforward_layernorm", hidden), rms_norm("post_feedforward_layernorm", hidden)
    if not config.flag("enable_moe_block", False):
        return Sublayer(mlp, before, after)
    dense = Sublayer(mlp, before, rms_norm("post_feedforward_layernorm_1", hidden))
    experts = _experts(config, hidden, activation)
    sparse = Sublayer(
        experts, rms_norm("pre_feedforward_layernorm_2", hidden), rms_norm("post_feedforward_layernorm_2", hidden)
    )
    return Sublayer(Parallel((dense, sparse)), post_norm=after)


def per_layer_input(hidden: int, width: int, activation: str, name: str) -> Sublayer:
    """The layer's own slice of the per-layer embedding, gated by the hidden state and projected back to it."""
    gate = linear("per_layer_input_gate", hidden, width, "other")
    back = linear("per_layer_projection", width, hidden, "other")
    return Sublayer(PerLayerInput(width, gate, back, activation), post_norm=rms_norm(name, hidden))


def with_per_layer_embedding(config: Config, spec: ModelSpec, width: int) -> ModelSpec:
    """The table [rows, layers x width] that is looked up once, and the projection of the token embedding beside it."""
    rows = config.integer("vocab_size_per_layer_input", 262_144, maximum=MAXIMUM_VOCABULARY)
    packed = spec.text.layer_count * width
    made_by = (
        linear("per_layer_model_projection", spec.hidden, packed, "other"),
        rms_norm("per_layer_projection_norm", width),
    )
    table = embedding("embed_tokens_per_layer", rows, packed)
    return replace(spec, embeddings=(*spec.embeddings, table), text=replace(spec.text, packed=made_by))


def _builder(config: Config, width: int) -> Callable[[_Kind], Layer]:
    hidden, intermediate = config.integer("hidden_size"), config.integer("intermediate_size")
    activation = activation_of(config, "gelu_pytorch_tanh", "hidden_activation")
    double = config.flag("use_double_wide_mlp", False)

    def build(kind: _Kind) -> Layer:
        mlp = gated_mlp(hidden, intermediate * (2 if double and kind.reuses else 1), activation=activation)
        attention = _attention(config, kind)
        sublayers = (
            Sublayer(attention, rms_norm("input_layernorm", hidden), rms_norm("post_attention_layernorm", hidden)),
            _feed_forward(config, hidden, mlp, activation),
        )
        if width:
            sublayers += (per_layer_input(hidden, width, activation, "post_per_layer_input_norm"),)
        return Layer(sublayers)

    return build


def read_gemma4_text(config: Config, top: Config | None = None) -> ModelSpec:
    """model_type gemma4_text."""
    config = filled(config, num_key_value_heads=4, head_dim=256, vocab_size=262_144)
    if "per_layer_config" in config:
        raise config.error("per_layer_config", "absent: layers with settings of their own are not modelled")
    width = config.integer("hidden_size_per_layer_input", 256, minimum=0)
    layers = layers_by(kinds_of(config), _builder(config, width))
    spec = decoder(config, layers, tied_by_default=True, top=top)
    spec = replace(spec, logit_softcap="final_logit_softcapping" in config)
    return with_per_layer_embedding(config, spec, width) if width else spec


def read_gemma4(config: Config) -> ModelSpec:
    """model_type gemma4: the text model with a vision tower and, where `audio_config` is given, an audio tower."""
    spec = read_gemma4_text(config.section("text_config"), top=config)
    if "vision_config" in config:
        tokens = config.optional_integer("vision_soft_tokens_per_image")
        spec = with_tower(spec, vision_tower(config.section("vision_config"), spec.hidden, tokens))
    if "audio_config" in config:
        spec = with_tower(spec, audio_tower(config.section("audio_config"), spec.hidden), "audio")
    return spec


READERS: dict[str, Reader] = {"gemma4": read_gemma4, "gemma4_text": read_gemma4_text}
