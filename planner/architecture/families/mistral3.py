"""Mistral Small 3.1+ and Ministral 3 with the Pixtral vision tower.

Source: transformers models/mistral3, models/pixtral; arXiv 2410.07073.
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import activation_of, gated_mlp, projections, runs_of
from planner.architecture.config import Config, UnknownModelType
from planner.architecture.families.ministral import read_ministral3
from planner.architecture.families.mistral import read_mistral
from planner.architecture.reader import Reader
from planner.architecture.spec import Layer, ModelSpec, Module, Note, Stack, Sublayer, linear, rms_norm
from planner.architecture.towers import grid_positions
from planner.architecture.vision import (
    channels_of,
    conv,
    merge_size,
    patch_size,
    tower_heads,
    with_tower,
)


def pixtral_tower(config: Config, after: tuple[Module, ...]) -> Stack:
    """Patches without bias, two-dimensional RoPE, gated MLPs; `image_size` is the largest image it is made for."""
    hidden = config.integer("hidden_size")
    heads, head_dim = tower_heads(config, hidden, "num_attention_heads")
    attention = replace(projections(hidden, heads, heads, head_dim), causal=False)
    mlp = gated_mlp(hidden, config.integer("intermediate_size"), activation=activation_of(config, "gelu"))
    layer = Layer(
        (Sublayer(attention, rms_norm("attention_norm", hidden)), Sublayer(mlp, rms_norm("ffn_norm", hidden)))
    )
    size = patch_size(config)
    return Stack(
        "vision",
        hidden,
        runs_of([layer] * config.layers()),
        before=(conv("patch_conv", hidden, channels_of(config), (size, size), bias=False), rms_norm("ln_pre", hidden)),
        after=after,
        positions_per_sample=grid_positions(config),
    )


def _projector(config: Config, width: int, hidden: int) -> tuple[Module, ...]:
    """A norm, a merge of neighbouring patches, two linear layers; several feature layers are read side by side."""
    layers = config.values.get("vision_feature_layer")
    features = len(config.items("vision_feature_layer") or [0]) if isinstance(layers, list) else 1
    bias = config.flag("multimodal_projector_bias", False)
    return (
        rms_norm("norm", width),
        linear("patch_merger.merging_layer", width * merge_size(config) ** 2, width, "vision"),
        linear("linear_1", width * features, hidden, "vision", bias),
        linear("linear_2", hidden, hidden, "vision", bias),
    )


def _tie_note(config: Config, text: Config, spec: ModelSpec) -> tuple[Note, ...]:
    """transformers 5 ties a head of which neither level says whether it is tied; the published ones are not."""
    if "tie_word_embeddings" in config or "tie_word_embeddings" in text or spec.lm_head is None:
        return ()
    elements = spec.lm_head.weight_elements
    message = (
        "The config does not say whether the output head shares the token table. The library's class then ties them, "
        f"while the published checkpoints store a head of their own with {elements:,} parameters."
    )
    return (Note("library_ties_untied_head", message, elements),)


def read_mistral3(config: Config) -> ModelSpec:
    """model_type mistral3: tying is read at the top level only and defaults to true (configuration_mistral3.py)."""
    text, vision = config.section("text_config"), config.section("vision_config")
    text_type = text.text("model_type", "mistral")
    readers = {"mistral": read_mistral, "ministral3": read_ministral3}
    if text_type not in readers:
        raise UnknownModelType(text_type, "mistral3 is read with a text model of type mistral or ministral3")
    tied = config.flag("tie_word_embeddings", True)
    spec = replace(readers[text_type](text, top=config), tied=tied)
    spec = replace(spec, notes=(*spec.notes, *_tie_note(config, text, spec)))
    return with_tower(spec, pixtral_tower(vision, _projector(config, vision.integer("hidden_size"), spec.hidden)))


READERS: dict[str, Reader] = {"mistral3": read_mistral3}
