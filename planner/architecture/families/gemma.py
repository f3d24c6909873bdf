"""Gemma 1, 2 and 3 (text).

Source: transformers models/gemma, gemma2, gemma3; arXiv 2403.08295, 2408.00118, 2503.19786.
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import (
    decoder,
    filled,
    full_every,
    gated_mlp,
    grouped_attention,
    layers_by,
    pre_norm_layer,
    windows_of,
)
from planner.architecture.config import Config
from planner.architecture.reader import Reader
from planner.architecture.spec import Layer, ModelSpec, Sublayer, rms_norm


def read_gemma(config: Config) -> ModelSpec:
    """model_type gemma: Llama's layer with a head width of its own, a tanh-GELU gate and a tied head."""
    config = filled(config, head_dim=256, num_key_value_heads=16, hidden_act="gelu_pytorch_tanh")
    bias = config.flag("attention_bias", False)
    hidden = config.integer("hidden_size")
    attention = grouped_attention(config, qkv_bias=bias, output_bias=bias)
    attention = replace(attention, causal=not config.flag("use_bidirectional_attention", False))
    mlp = gated_mlp(hidden, config.integer("intermediate_size"), activation=config.text("hidden_act"))
    return decoder(config, [pre_norm_layer(hidden, attention, mlp)] * config.layers(), tied_by_default=True)


def sandwich_layers(config: Config, pattern: int, window: int | None, *, qk_norm: bool) -> list[Layer]:
    """Gemma 2's layers: a norm before and after each sublayer; every `pattern`-th layer attends to everything."""
    hidden = config.integer("hidden_size")
    bias = config.flag("attention_bias", False)
    activation = config.text("hidden_activation", "gelu_pytorch_tanh")
    mlp = gated_mlp(hidden, config.integer("intermediate_size"), activation=activation)
    softcap = "attn_logit_softcapping" in config
    causal = not config.flag("use_bidirectional_attention", False)

    def build(layer_window: int | None) -> Layer:
        attention = grouped_attention(config, qkv_bias=bias, output_bias=bias, qk_norm=qk_norm, window=layer_window)
        attention = replace(attention, softcap=softcap, causal=causal)
        return Layer(
            (
                Sublayer(attention, rms_norm("input_layernorm", hidden), rms_norm("post_attention_layernorm", hidden)),
                Sublayer(
                    mlp, rms_norm("pre_feedforward_layernorm", hidden), rms_norm("post_feedforward_layernorm", hidden)
                ),
            )
        )

    return layers_by(windows_of(config, window, full_every(pattern)), build)


def read_gemma2(config: Config) -> ModelSpec:
    """model_type gemma2: every second layer slides; attention scores and logits are soft-capped."""
    config = filled(
        config,
        num_key_value_heads=4,
        head_dim=256,
        sliding_window=4096,
        attn_logit_softcapping=50,
        final_logit_softcapping=30,
    )
    layers = sandwich_layers(config, 2, config.optional_integer("sliding_window"), qk_norm=False)
    spec = decoder(config, layers, tied_by_default=True)
    return replace(spec, logit_softcap="final_logit_softcapping" in config)


def read_gemma3_text(config: Config, top: Config | None = None) -> ModelSpec:
    """model_type gemma3_text: QK norms; five sliding layers, then a full one (`sliding_window_pattern`).

    The published configs of 4B and larger leave heads, head width and vocabulary to the class defaults.
    """
    config = filled(
        config, num_attention_heads=8, num_key_value_heads=4, head_dim=256, vocab_size=262_208, sliding_window=4096
    )
    window = config.optional_integer("sliding_window")
    if window is not None and config.flag("use_bidirectional_attention", False):
        window = window // 2 + 1  # configuration_gemma3.py: flash attention's bounds are exclusive
    pattern = config.integer("sliding_window_pattern", 6)
    layers = sandwich_layers(config, pattern, window, qk_norm=True)
    spec = decoder(config, layers, tied_by_default=True, top=top)
    return replace(spec, logit_softcap="final_logit_softcapping" in config)


READERS: dict[str, Reader] = {"gemma": read_gemma, "gemma2": read_gemma2, "gemma3_text": read_gemma3_text}
