"""RecurrentGemma (Griffin): two recurrent blocks to one windowed attention, biased projections, soft-capped logits.

Source: transformers models/recurrent_gemma (modeling and configuration files); arXiv 2402.19427, 2404.07839.
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import decoder, gated_mlp, heads_of, layers_by, pre_norm_layer, projections
from planner.architecture.config import MAXIMUM_HEADS, Config
from planner.architecture.reader import Reader
from planner.architecture.recurrent import causal_convolution
from planner.architecture.rotary import rotary_dim_of
from planner.architecture.spec import Attention, Layer, ModelSpec, StateSpace, linear, parameter


def recurrent_block(config: Config) -> StateSpace:
    """Two branches h -> w, a convolution, the RG-LRU with block-diagonal gates (one block per head), w -> h."""
    hidden, width = config.integer("hidden_size"), config.optional_integer("lru_width")
    inner, heads = width or hidden, config.integer("num_attention_heads", maximum=MAXIMUM_HEADS)
    if inner % heads:
        raise config.error("lru_width", f"a multiple of num_attention_heads {heads}")
    block, kernel = inner // heads, config.integer("conv1d_width", 4)
    gates = (
        parameter(f"rg_lru.{name}_gate_{part}", (heads, *shape), "state_space")
        for name in ("input", "recurrent")
        for part, shape in (("weight", (block, block)), ("bias", (block,)))
    )
    modules = (
        linear("linear_y", hidden, inner, "state_space", True),
        linear("linear_x", hidden, inner, "state_space", True),
        linear("linear_out", inner, hidden, "state_space", True),
        causal_convolution(inner, kernel, bias=True),
        parameter("rg_lru.recurrent_param", (inner,), "state_space"),
        *gates,
    )
    return StateSpace("rg_lru", modules, inner, state=1, heads=heads, groups=heads, kernel=kernel)


def local_attention(config: Config) -> Attention:
    """Attention over `attention_window_size` positions; o always has a bias; half of each head turns."""
    hidden, (heads, key_value_heads) = config.integer("hidden_size"), heads_of(config)
    if hidden % heads:
        raise config.error("num_attention_heads", f"a divisor of hidden_size {hidden}")
    bias, head_dim = config.flag("attention_bias", False), hidden // heads
    return replace(
        projections(hidden, heads, key_value_heads, head_dim, qkv_bias=bias, output_bias=True),
        window=config.integer("attention_window_size", 2048),
        rotary_dim=rotary_dim_of(config, head_dim, 0.5),
    )


def block_names(config: Config) -> list[str]:
    """`block_types` repeated over the layers, at most 100 times as in the library."""
    count = config.layers()
    pattern = config.items("block_types") or ["recurrent", "recurrent", "attention"]
    if any(name not in ("recurrent", "attention") for name in pattern) or len(pattern) * 100 < count:
        raise config.error("block_types", "a list of recurrent and attention")
    return [pattern[index % len(pattern)] for index in range(count)]


def read_recurrent_gemma(config: Config) -> ModelSpec:
    """model_type recurrent_gemma: `intermediate_size` counts gate and up together; its class default is no model's."""
    hidden, intermediate = config.integer("hidden_size"), config.integer("intermediate_size", minimum=2)
    activation = config.text("hidden_activation", "gelu_pytorch_tanh")
    mlp = gated_mlp(hidden, intermediate // 2, bias=True, activation=activation)

    def layer(name: str) -> Layer:
        return pre_norm_layer(hidden, recurrent_block(config) if name == "recurrent" else local_attention(config), mlp)

    spec = decoder(config, layers_by(block_names(config), layer), tied_by_default=True)
    return replace(spec, logit_softcap=True)


READERS: dict[str, Reader] = {"recurrent_gemma": read_recurrent_gemma}
