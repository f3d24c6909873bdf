"""StarCoder2: grouped attention and a plain MLP with LayerNorm and biases.

Source: transformers models/starcoder2; arXiv 2402.19173.
"""

from __future__ import annotations

from planner.architecture.blocks import activation_of, decoder, filled, grouped_attention, plain_mlp, sequential_layer
from planner.architecture.config import Config
from planner.architecture.reader import Reader
from planner.architecture.spec import ModelSpec, layer_norm


def read_starcoder2(config: Config) -> ModelSpec:
    """model_type starcoder2: `use_bias` (on by default) gives every projection a bias; tied head by default."""
    config = filled(config, num_key_value_heads=2)
    hidden = config.integer("hidden_size")
    bias = config.flag("use_bias", True)
    window = config.optional_integer("sliding_window")
    attention = grouped_attention(config, qkv_bias=bias, output_bias=bias, window=window)
    activation = activation_of(config, "gelu_pytorch_tanh")
    mlp = plain_mlp(
        hidden, config.integer("intermediate_size"), bias=bias, activation=activation, names=("c_fc", "c_proj")
    )
    norms = (layer_norm("input_layernorm", hidden), layer_norm("post_attention_layernorm", hidden))
    layer = sequential_layer(attention, mlp, norms)
    return decoder(config, [layer] * config.layers(), tied_by_default=True, norm=layer_norm)


READERS: dict[str, Reader] = {"starcoder2": read_starcoder2}
