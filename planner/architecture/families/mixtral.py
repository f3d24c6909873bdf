"""Mixtral: Mistral's attention, every feed-forward block a mixture of experts.

Source: transformers models/mixtral/modeling_mixtral.py; arXiv 2401.04088.
"""

from __future__ import annotations

from planner.architecture.blocks import decoder, grouped_attention, pre_norm_layer
from planner.architecture.config import Config
from planner.architecture.experts import expert_count, routed
from planner.architecture.reader import Reader
from planner.architecture.spec import ModelSpec


def read_mixtral(config: Config) -> ModelSpec:
    """model_type mixtral: no biases, `num_local_experts` experts of `intermediate_size`, no shared expert."""
    hidden = config.integer("hidden_size")
    attention = grouped_attention(config, window=config.optional_integer("sliding_window"))
    experts = routed(
        config,
        count=expert_count(config, "num_local_experts"),
        intermediate=config.integer("intermediate_size"),
        activation=config.text("hidden_act", "silu"),
    )
    return decoder(config, [pre_norm_layer(hidden, attention, experts)] * config.layers())


READERS: dict[str, Reader] = {"mixtral": read_mixtral}
