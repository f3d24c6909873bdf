"""DeepSeek V3, R1 and V3.1, Kimi K2 and Moonlight: latent attention, first dense layers, shared experts, MTP.

Source: transformers models/deepseek_v3 (modeling and configuration files); arXiv 2412.19437, 2507.20534.
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import decoder, gated_mlp, pre_norm_layer
from planner.architecture.config import MAXIMUM_EXPERTS, Config
from planner.architecture.experts import (
    expert_count,
    interleaved,
    latent_attention,
    mtp_elements,
    mtp_note,
    prediction_depth,
    routed,
    shared_mlp,
    sparse_after_first,
)
from planner.architecture.reader import Reader
from planner.architecture.spec import Layer, Mixer, ModelSpec, Moe


def deepseek_experts(config: Config, experts: str = "n_routed_experts", shared: str = "n_shared_experts") -> Moe:
    """Experts of `moe_intermediate_size` columns and one MLP as wide as all shared experts, by the fields' names."""
    hidden = config.integer("hidden_size")
    intermediate = config.integer("moe_intermediate_size")
    shared_count = config.integer(shared, minimum=0, maximum=MAXIMUM_EXPERTS)
    activation = config.text("hidden_act", "silu")
    return routed(
        config,
        count=expert_count(config, experts),
        intermediate=intermediate,
        shared=shared_mlp(hidden, intermediate * shared_count, activation),
        activation=activation,
    )


def deepseek_layers(config: Config, attention: Mixer, pattern: list[bool], experts: Moe | None = None) -> list[Layer]:
    """One layer per entry of `pattern`, with experts where True and with a dense MLP where False."""
    hidden = config.integer("hidden_size")
    sparse = experts or deepseek_experts(config)
    if all(pattern):
        return [pre_norm_layer(hidden, attention, sparse)] * len(pattern)
    dense = gated_mlp(hidden, config.integer("intermediate_size"), activation=config.text("hidden_act", "silu"))
    return interleaved(hidden, attention, dense, sparse, pattern)


def with_prediction_layers(spec: ModelSpec, config: Config, layer: Layer, vocabulary_copies: int) -> ModelSpec:
    """The model with `num_nextn_predict_layers` MTP layers like `layer` in its checkpoint."""
    one = mtp_elements(layer, spec.hidden, vocabulary_copies=vocabulary_copies, vocabulary=spec.vocabulary)
    elements = prediction_depth(config) * one
    return replace(spec, mtp_parameters=elements, notes=(*spec.notes, *mtp_note(elements)))


def read_deepseek_v3(config: Config) -> ModelSpec:
    """model_type deepseek_v3 and kimi_k2; an MTP layer is stored with its own token table and head."""
    attention = latent_attention(config)
    layers = deepseek_layers(config, attention, sparse_after_first(config, config.layers()))
    prediction_layer = deepseek_layers(config, attention, [True])[0]
    return with_prediction_layers(decoder(config, layers), config, prediction_layer, vocabulary_copies=2)


READERS: dict[str, Reader] = {"deepseek_v3": read_deepseek_v3, "kimi_k2": read_deepseek_v3}
