"""Qwen3.5, dense and MoE, with its vision tower: Qwen3-Next's layers with four projections per delta net, and MTP.

Source: transformers models/qwen3_5 and qwen3_5_moe (modeling and configuration files).
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import decoder, gated_mlp, layers_by, pre_norm_layer
from planner.architecture.config import Config
from planner.architecture.experts import mtp_elements, mtp_note, prediction_depth
from planner.architecture.families.qwen3_next import gated_attention, gated_shared_experts, mixer_kinds
from planner.architecture.reader import Reader
from planner.architecture.recurrent import gated_delta
from planner.architecture.spec import Attention, Layer, ModelSpec, StateSpace
from planner.architecture.towers import qwen3_tower


def text_model(config: Config, top: Config, sparse: bool) -> ModelSpec:
    """The text model; `mtp_num_hidden_layers` MTP layers share the token table and the head."""
    hidden = config.integer("hidden_size")
    mixers: dict[str, Attention | StateSpace] = {
        "linear_attention": gated_delta(config, fused=False),
        "full_attention": gated_attention(config),
    }
    if sparse:
        feed_forward = gated_shared_experts(config)
    else:
        width, activation = config.integer("intermediate_size"), config.text("hidden_act", "silu")
        feed_forward = gated_mlp(hidden, width, activation=activation)

    def layer(kind: str) -> Layer:
        return pre_norm_layer(hidden, mixers[kind], feed_forward)

    spec = decoder(config, layers_by(mixer_kinds(config), layer), top=top)
    elements = prediction_depth(config, "mtp_num_hidden_layers") * mtp_elements(layer("full_attention"), hidden)
    return replace(spec, mtp_parameters=elements, notes=mtp_note(elements))


def read_multimodal(config: Config) -> ModelSpec:
    """model_type qwen3_5 and qwen3_5_moe: text model and vision tower."""
    sparse = config.text("model_type") == "qwen3_5_moe"
    spec = text_model(config.section("text_config"), config, sparse)
    return replace(spec, encoders=(qwen3_tower(config.section("vision_config"), deepstack=False),))


def read_text(config: Config) -> ModelSpec:
    """model_type qwen3_5_text and qwen3_5_moe_text: the text model alone."""
    return text_model(config, config, config.text("model_type") == "qwen3_5_moe_text")


READERS: dict[str, Reader] = {
    "qwen3_5": read_multimodal,
    "qwen3_5_moe": read_multimodal,
    "qwen3_5_text": read_text,
    "qwen3_5_moe_text": read_text,
}
