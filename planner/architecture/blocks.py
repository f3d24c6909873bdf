"""Blocks that many families share, built from a config's fields."""

from __future__ import annotations

from planner.architecture.config import MAXIMUM_HEADS, MAXIMUM_VOCABULARY, Config
from planner.architecture.spec import Attention, Layer, LayerRun, Mlp, Module, Sublayer, embedding, linear, rms_norm


def runs_of(layers: list[Layer]) -> tuple[LayerRun, ...]:
    """Equal neighbours joined into runs."""
    runs: list[LayerRun] = []
    for layer in layers:
        if runs and runs[-1].layer == layer:
            runs[-1] = LayerRun(layer, runs[-1].count + 1)
        else:
            runs.append(LayerRun(layer, 1))
    return tuple(runs)


def head_dim_of(config: Config, heads: int) -> int:
    """`head_dim` where the config has it, else hidden / heads (which must divide)."""
    if "head_dim" in config:
        return config.integer("head_dim")
    hidden = config.integer("hidden_size")
    if hidden % heads:
        raise config.error("num_attention_heads", f"a divisor of hidden_size {hidden}, or give head_dim")
    return hidden // heads


def heads_of(config: Config) -> tuple[int, int]:
    """(query heads, key/value heads); the latter default to the former and must divide them."""
    heads = config.integer("num_attention_heads", maximum=MAXIMUM_HEADS)
    key_value_heads = config.optional_integer("num_key_value_heads", maximum=MAXIMUM_HEADS) or heads
    if heads % key_value_heads:
        raise config.error("num_key_value_heads", f"a divisor of num_attention_heads {heads}")
    return heads, key_value_heads


def grouped_attention(
    config: Config,
    *,
    qkv_bias: bool = False,
    output_bias: bool = False,
    qk_norm: bool = False,
    window: int | None = None,
) -> Attention:
    """Llama's attention: q, k, v, o projections with grouped key/value heads, RoPE, optional per-head QK norms."""
    hidden = config.integer("hidden_size")
    heads, key_value_heads = heads_of(config)
    head_dim = head_dim_of(config, heads)
    return Attention(
        query_heads=heads,
        key_value_heads=key_value_heads,
        head_dim=head_dim,
        q=linear("q_proj", hidden, heads * head_dim, "attention", qkv_bias),
        k=linear("k_proj", hidden, key_value_heads * head_dim, "attention", qkv_bias),
        v=linear("v_proj", hidden, key_value_heads * head_dim, "attention", qkv_bias),
        o=linear("o_proj", heads * head_dim, hidden, "attention", output_bias),
        q_norm=rms_norm("q_norm", head_dim) if qk_norm else None,
        k_norm=rms_norm("k_norm", head_dim) if qk_norm else None,
        window=window,
    )


def gated_mlp(hidden: int, intermediate: int, *, bias: bool = False, activation: str = "silu") -> Mlp:
    """Llama's MLP: down(act(gate(x)) * up(x))."""
    return Mlp(
        intermediate=intermediate,
        gate=linear("gate_proj", hidden, intermediate, "mlp", bias),
        up=linear("up_proj", hidden, intermediate, "mlp", bias),
        down=linear("down_proj", intermediate, hidden, "mlp", bias),
        activation=activation,
    )


def pre_norm_layer(hidden: int, attention: Sublayer | Attention, feed_forward: Mlp | Sublayer) -> Layer:
    """Llama's layer: RMSNorm -> attention, RMSNorm -> MLP, each added to the residual."""
    first = attention if isinstance(attention, Sublayer) else Sublayer(attention, rms_norm("input_layernorm", hidden))
    second = (
        feed_forward
        if isinstance(feed_forward, Sublayer)
        else Sublayer(feed_forward, rms_norm("post_attention_layernorm", hidden))
    )
    return Layer((first, second))


def token_embedding(config: Config) -> Module:
    """The token table [vocab_size, hidden_size]."""
    return embedding("embed_tokens", config.integer("vocab_size", maximum=MAXIMUM_VOCABULARY), config.integer("hidden_size"))


def lm_head(config: Config, bias: bool = False) -> Module:
    """The output projection [vocab_size, hidden_size]."""
    vocabulary = config.integer("vocab_size", maximum=MAXIMUM_VOCABULARY)
    return linear("lm_head", config.integer("hidden_size"), vocabulary, "lm_head", bias)
