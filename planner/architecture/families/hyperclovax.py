"""HyperCLOVA X SEED: Granite's block with optional norms after the sublayers.

Source: transformers models/hyperclovax.
"""

from __future__ import annotations

from planner.architecture.blocks import activation_of, decoder, gated_mlp, grouped_attention
from planner.architecture.config import Config
from planner.architecture.reader import Reader
from planner.architecture.spec import Layer, ModelSpec, Sublayer, rms_norm


def read_hyperclovax(config: Config) -> ModelSpec:
    """model_type hyperclovax: `use_post_norm` (on by default) adds a norm after each sublayer."""
    hidden = config.integer("hidden_size")
    bias = config.flag("attention_bias", False)
    attention = grouped_attention(config, qkv_bias=bias, output_bias=bias)
    mlp_bias = config.flag("mlp_bias", False)
    activation = activation_of(config, "silu")
    mlp = gated_mlp(hidden, config.integer("intermediate_size"), bias=mlp_bias, activation=activation)
    post = config.flag("use_post_norm", True)
    layer = Layer(
        (
            Sublayer(attention, rms_norm("input_layernorm", hidden), rms_norm("post_norm1", hidden) if post else None),
            Sublayer(
                mlp, rms_norm("post_attention_layernorm", hidden), rms_norm("post_norm2", hidden) if post else None
            ),
        )
    )
    return decoder(config, [layer] * config.layers())


READERS: dict[str, Reader] = {"hyperclovax": read_hyperclovax}
