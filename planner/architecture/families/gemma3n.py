"""Gemma 3n: four residual streams of which one runs through the layer, shared keys and values, per-layer embeddings.

Source: transformers models/gemma3n; AltUp: arXiv 2301.13310; LAuReL: arXiv 2411.07501.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from planner.architecture.blocks import (
    activation_of,
    bare_rms_norm,
    decoder,
    filled,
    full_every,
    gated_mlp,
    grouped_attention,
    layer_types_of,
    layers_by,
)
from planner.architecture.config import MAXIMUM_WIDTH, Config
from planner.architecture.families.gemma3n_towers import audio_tower, vision_tower
from planner.architecture.families.gemma4 import per_layer_input, with_per_layer_embedding
from planner.architecture.reader import Reader
from planner.architecture.spec import Attention, Layer, ModelSpec, Module, Opaque, Sublayer, linear, parameter, rms_norm
from planner.architecture.vision import with_tower

FULL = "full_attention"
Key = tuple[bool, bool, int]


def _widths(config: Config) -> list[int]:
    """`intermediate_size`: one width, or one per layer."""
    layers = config.layers()
    if not isinstance(config.values.get("intermediate_size"), list):
        return [config.integer("intermediate_size")] * layers
    widths = config.items("intermediate_size", layers) or []
    if any(type(width) is not int or not 1 <= width <= MAXIMUM_WIDTH for width in widths):
        raise config.error("intermediate_size", f"integers from 1 to {MAXIMUM_WIDTH}")
    return widths


def _keys(config: Config) -> list[Key]:
    """(full, reuses the keys of an earlier layer, MLP width) of each layer."""
    types = layer_types_of(config, (FULL, "sliding_attention"), full_every(5))
    shared = config.integer("num_kv_shared_layers", 15, minimum=0)
    if shared and shared >= len(types):
        raise config.error("num_kv_shared_layers", f"fewer than the {len(types)} layers")
    first = len(types) - shared
    return [
        (kind == FULL, index >= first, width)
        for index, (kind, width) in enumerate(zip(types, _widths(config), strict=True))
    ]


def _attention(config: Config, *, full: bool, reuses: bool) -> Attention:
    bias = config.flag("attention_bias", False)
    window = None if full else config.integer("sliding_window", 512)
    base = grouped_attention(config, qkv_bias=bias, output_bias=bias, qk_norm=True, window=window)
    if reuses:
        return replace(base, k=None, v=None, k_norm=None)
    return replace(base, extra=(bare_rms_norm("v_norm"),))


def _streams(config: Config, hidden: int) -> tuple[Module, ...]:
    """AltUp's predictor and corrector over the streams, and LAuReL's low-rank path beside the attention."""
    streams, rank = config.integer("altup_num_inputs", 4, maximum=1024), config.integer("laurel_rank", 64)
    return (
        parameter("altup.correct_output_scale", (hidden,), "other"),
        linear("altup.correction_coefs", streams, streams, "other"),
        linear("altup.prediction_coefs", streams, streams**2, "other"),
        linear("altup.modality_router", hidden, streams, "other"),
        rms_norm("altup.router_norm", hidden),
        linear("laurel.linear_left", hidden, rank, "other"),
        linear("laurel.linear_right", rank, hidden, "other"),
        rms_norm("laurel.post_laurel_norm", hidden),
    )


def _builder(config: Config, per_layer: int) -> Callable[[Key], Layer]:
    hidden = config.integer("hidden_size")
    activation = activation_of(config, "gelu_pytorch_tanh", "hidden_activation")
    what = "Gemma 3n (residual streams by AltUp, LAuReL, per-layer embeddings, keys and values shared between layers)"

    def build(key: Key) -> Layer:
        full, reuses, width = key
        mlp = gated_mlp(hidden, width, activation=activation)
        sublayers = (
            Sublayer(
                _attention(config, full=full, reuses=reuses),
                rms_norm("input_layernorm", hidden),
                rms_norm("post_attention_layernorm", hidden),
            ),
            Sublayer(
                mlp, rms_norm("pre_feedforward_layernorm", hidden), rms_norm("post_feedforward_layernorm", hidden)
            ),
            per_layer_input(hidden, per_layer, activation, "post_per_layer_input_norm"),
            Sublayer(Opaque(what, _streams(config, hidden))),
        )
        return Layer(sublayers)

    return build


def read_gemma3n_text(config: Config, top: Config | None = None) -> ModelSpec:
    """model_type gemma3n_text: the streams other than the first are made and joined by projections of their own."""
    config = filled(config, num_key_value_heads=2, head_dim=256, vocab_size=262_400, final_logit_softcapping=30)
    per_layer = config.integer("hidden_size_per_layer_input", 256)
    spec = decoder(config, layers_by(_keys(config), _builder(config, per_layer)), tied_by_default=True, top=top)
    spec = with_per_layer_embedding(config, spec, per_layer)
    hidden, streams = spec.hidden, config.integer("altup_num_inputs", 4, maximum=1024)
    make = tuple(linear(f"altup_projections.{index}", hidden, hidden, "other") for index in range(streams - 1))
    join = tuple(linear(f"altup_unembed_projections.{index}", hidden, hidden, "other") for index in range(streams - 1))
    text = replace(spec.text, before=(*spec.text.before, *make), after=(*join, *spec.text.after))
    return replace(spec, text=text, logit_softcap="final_logit_softcapping" in config)


def read_gemma3n(config: Config) -> ModelSpec:
    """model_type gemma3n: the text model with its vision and audio towers."""
    spec = read_gemma3n_text(config.section("text_config"), top=config)
    spec = with_tower(spec, vision_tower(config.section("vision_config"), spec.hidden))
    return with_tower(spec, audio_tower(config.section("audio_config"), spec.hidden), "audio")


READERS: dict[str, Reader] = {"gemma3n": read_gemma3n, "gemma3n_text": read_gemma3n_text}
