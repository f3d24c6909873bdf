"""Apertus: Llama's attention with QK norms and an ungated MLP whose activation has two trained numbers.

Source: transformers models/apertus, activations.py (XIELUActivation); xIELU: arXiv 2411.13010.
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import activation_of, decoder, grouped_attention, plain_mlp, pre_norm_layer
from planner.architecture.config import Config
from planner.architecture.reader import Reader
from planner.architecture.spec import ModelSpec, parameter


def read_apertus(config: Config) -> ModelSpec:
    """model_type apertus: xIELU's alpha_p and alpha_n are parameters of one element each."""
    hidden = config.integer("hidden_size")
    bias = config.flag("attention_bias", False)
    activation = activation_of(config, "xielu")
    intermediate = config.integer("intermediate_size")
    mlp = plain_mlp(hidden, intermediate, bias=False, activation=activation, names=("up_proj", "down_proj"))
    if activation == "xielu":
        alphas = (parameter("act_fn.alpha_p", (1,), "mlp"), parameter("act_fn.alpha_n", (1,), "mlp"))
        mlp = replace(mlp, extra=alphas)
    attention = grouped_attention(config, qkv_bias=bias, output_bias=bias, qk_norm=True)
    return decoder(config, [pre_norm_layer(hidden, attention, mlp)] * config.layers())


READERS: dict[str, Reader] = {"apertus": read_apertus}
