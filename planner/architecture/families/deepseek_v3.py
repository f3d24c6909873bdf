"""DeepSeek V3, R1 and V3.1, Kimi K2 and Moonlight: latent attention, first dense layers, shared experts, MTP.

Source: transformers models/deepseek_v3 (modeling and configuration files); arXiv 2412.19437, 2507.20534.
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import decoder, gated_mlp
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
from planner.architecture.spec import LatentAttention, Layer, ModelSpec, Moe


def deepseek_experts(config: Config) -> Moe:
    """`n_routed_experts` experts and one shared MLP of `n_shared_experts` x `moe_intermediate_size` columns."""
    hidden = config.integer("hidden_size")
    intermediate = config.integer("moe_intermediate_size")
    shared_count = config.integer("n_shared_experts", minimum=0, maximum=MAXIMUM_EXPERTS)
    activation = config.text("hidden_act", "silu")
    return routed(
        config,
        count=expert_count(config, "n_routed_experts"),
        intermediate=intermediate,
        shared=shared_mlp(hidden, intermediate * shared_count, activation),
        activation=activation,
    )


def deepseek_layers(config: Config, attention: LatentAttention) -> list[Layer]:
    """`first_k_dense_replace` layers with a dense MLP, then layers with experts."""
    hidden = config.integer("hidden_size")
    dense = gated_mlp(hidden, config.integer("intermediate_size"), activation=config.text("hidden_act", "silu"))
    pattern = sparse_after_first(config, config.layers())
    return interleaved(hidden, attention, dense, deepseek_experts(config), pattern)


def with_prediction_layers(spec: ModelSpec, config: Config, layer: Layer, vocabulary_copies: int) -> ModelSpec:
    """The model with `num_nextn_predict_layers` MTP layers like `layer` in its checkpoint."""
    one = mtp_elements(
        layer, spec.hidden, vocabulary_copies=vocabulary_copies, vocabulary=spec.vocabulary
    )  # fmt: skip
    elements = prediction_depth(config) * one
    return replace(spec, mtp_parameters=elements, notes=(*spec.notes, *mtp_note(elements)))


def read_deepseek_v3(config: Config) -> ModelSpec:
    """model_type deepseek_v3 and kimi_k2; an MTP layer is stored with its own token table and head."""
    attention = latent_attention(config)
    layers = deepseek_layers(config, attention)
    prediction_layer = interleaved(
        config.integer("hidden_size"),
        attention,
        gated_mlp(1, 1),
        deepseek_experts(config),
        [True],
    )[0]
    return with_prediction_layers(decoder(config, layers), config, prediction_layer, vocabulary_copies=2)


READERS: dict[str, Reader] = {"deepseek_v3": read_deepseek_v3, "kimi_k2": read_deepseek_v3}
