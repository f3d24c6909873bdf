"""Llama 3.2 Vision: Llama with cross-attention layers that read the image.

Source: transformers models/mllama; arXiv 2407.21783.
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import (
    activation_of,
    decoder,
    filled,
    grouped_attention,
    layers_by,
    llama_layer,
    plain_mlp,
    projections,
    runs_of,
)
from planner.architecture.config import MAXIMUM_VOCABULARY, Config
from planner.architecture.reader import Reader
from planner.architecture.spec import (
    Layer,
    Mlp,
    ModelSpec,
    Module,
    Stack,
    Sublayer,
    embedding,
    layer_norm,
    linear,
    parameter,
)
from planner.architecture.towers import grid_positions
from planner.architecture.vision import channels_of, conv, patch_size, tower_heads, with_tower

CLASS_CROSS_LAYERS = [3, 8, 13, 18, 23, 28, 33, 38]
CLASS_FEATURE_LAYERS = 5
CLASS_ASPECT_RATIOS = 8
EXTRA_TOKENS = 8  # modeling_mllama.py: the token table has rows for the image's special tokens, the head does not


def _vision_layer(config: Config, hidden: int, *, gated: bool) -> Layer:
    heads, head_dim = tower_heads(config, hidden, "attention_heads")
    attention = replace(projections(hidden, heads, heads, head_dim), causal=False, position="none")
    mlp = plain_mlp(hidden, config.integer("intermediate_size"), activation=activation_of(config, "gelu"))
    gates = (parameter("gate_attn", (1,), "vision"), parameter("gate_ffn", (1,), "vision")) if gated else ()
    return Layer(
        (
            Sublayer(attention, layer_norm("input_layernorm", hidden)),
            Sublayer(mlp, layer_norm("post_attention_layernorm", hidden)),
        ),
        extra=gates,
    )


def _tower_input(config: Config, hidden: int, positions: int, tiles: int) -> tuple[Module, ...]:
    """Patches, the class token, positions per patch and per tile, and two gated tables of the tiles' layout."""
    ratios = len(config.items("supported_aspect_ratios") or [None] * CLASS_ASPECT_RATIOS) + 1
    size = patch_size(config)
    return (
        conv("patch_embedding", hidden, channels_of(config), (size, size), bias=False),
        parameter("class_embedding", (hidden,), "vision"),
        parameter("gated_positional_embedding.gate", (1,), "vision"),
        parameter("gated_positional_embedding.embedding", (positions, hidden), "vision"),
        embedding("gated_positional_embedding.tile_embedding", ratios, tiles * positions * hidden),
        embedding("pre_tile_positional_embedding.embedding", ratios, tiles * hidden),
        parameter("pre_tile_positional_embedding.gate", (1,), "vision"),
        embedding("post_tile_positional_embedding.embedding", ratios, tiles * hidden),
        parameter("post_tile_positional_embedding.gate", (1,), "vision"),
        layer_norm("layernorm_pre", hidden),
    )


def mllama_tower(config: Config, text_hidden: int) -> Stack:
    """Local layers, then gated global ones; the output joins the last state and some middle ones."""
    hidden = config.integer("hidden_size")
    positions = grid_positions(config) + 1
    tiles = config.integer("max_num_tiles", 4, maximum=1024)
    local = [_vision_layer(config, hidden, gated=False)] * config.layers()
    final = [_vision_layer(config, hidden, gated=True)] * config.layers("num_global_layers", 8)
    joined = config.integer("vision_output_dim", hidden * (CLASS_FEATURE_LAYERS + 1))
    projector = linear("multi_modal_projector", joined, text_hidden, "vision", True)
    return Stack(
        "vision",
        hidden,
        runs_of([*local, *final]),
        before=_tower_input(config, hidden, positions, tiles),
        after=(layer_norm("layernorm_post", hidden), projector),
        positions_per_sample=tiles * positions,
    )


def _cross_layer(config: Config) -> Layer:
    """Attention from text to image with QK norms; two gates of one element scale what each sublayer adds."""
    attention = replace(grouped_attention(config, qk_norm=True), causal=False, cross=True, position="none")
    gate = parameter("cross_attn_attn_gate", (1,), "attention")
    layer = llama_layer(config, replace(attention, extra=(gate,)))
    mlp = layer.sublayers[1].mixer
    assert isinstance(mlp, Mlp)
    gated = replace(layer.sublayers[1], mixer=replace(mlp, extra=(parameter("cross_attn_mlp_gate", (1,), "mlp"),)))
    return replace(layer, sublayers=(layer.sublayers[0], gated))


def read_mllama(config: Config) -> ModelSpec:
    """model_type mllama: `cross_attention_layers` are the indexes of the image layers; the head is never tied."""
    text = filled(config.section("text_config").without("head_dim"), num_key_value_heads=8)
    given = text.items("cross_attention_layers")
    crossing = frozenset(index for index in (CLASS_CROSS_LAYERS if given is None else given) if isinstance(index, int))
    layers = layers_by(
        [index in crossing for index in range(text.layers())],
        lambda cross: _cross_layer(text) if cross else llama_layer(text, grouped_attention(text)),
    )
    spec = decoder(text, layers, top=config)
    rows = text.integer("vocab_size", maximum=MAXIMUM_VOCABULARY) + EXTRA_TOKENS
    table = embedding("embed_tokens", rows, spec.hidden)
    spec = replace(spec, embeddings=(table,), tied=False)
    return with_tower(spec, mllama_tower(config.section("vision_config"), spec.hidden))


READERS: dict[str, Reader] = {"mllama": read_mllama}
