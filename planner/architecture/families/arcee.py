"""Arcee AFM: Llama's attention with an ungated squared-ReLU MLP.

Source: transformers models/arcee.
"""

from __future__ import annotations

from planner.architecture.blocks import activation_of, decoder, grouped_attention, plain_mlp, pre_norm_layer
from planner.architecture.config import Config
from planner.architecture.reader import Reader
from planner.architecture.spec import ModelSpec


def read_arcee(config: Config) -> ModelSpec:
    """model_type arcee: no gate in the MLP."""
    hidden = config.integer("hidden_size")
    bias = config.flag("attention_bias", False)
    mlp = plain_mlp(
        hidden,
        config.integer("intermediate_size"),
        bias=config.flag("mlp_bias", False),
        activation=activation_of(config, "relu2"),
        names=("up_proj", "down_proj"),
    )
    attention = grouped_attention(config, qkv_bias=bias, output_bias=bias)
    return decoder(config, [pre_norm_layer(hidden, attention, mlp)] * config.layers())


READERS: dict[str, Reader] = {"arcee": read_arcee}
