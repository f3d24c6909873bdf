"""Whisper: an audio encoder and a text decoder.

Source: transformers models/whisper; arXiv 2212.04356.
"""

from __future__ import annotations

from planner.architecture.blocks import activation_of, even_head_dim, plain_mlp, runs_of, stored_dtype, vocabulary_of
from planner.architecture.config import MAXIMUM_HEADS, Config
from planner.architecture.reader import Reader
from planner.architecture.spec import (
    Attention,
    Layer,
    ModelSpec,
    Module,
    Stack,
    Sublayer,
    embedding,
    layer_norm,
    linear,
)
from planner.architecture.vision import recolored

CONVOLUTION_KERNEL = 3  # modeling_whisper.py: two convolutions of three frames, the second with stride 2


def _attention(config: Config, hidden: int, side: str, *, causal: bool, cross: bool = False) -> Attention:
    """Separate projections with biases, except for the key's."""
    name = f"{side}_attention_heads"
    heads = config.integer(name, maximum=MAXIMUM_HEADS)
    return Attention(
        query_heads=heads,
        key_value_heads=heads,
        head_dim=even_head_dim(config, hidden, heads, name),
        q=linear("q_proj", hidden, hidden, "attention", True),
        k=linear("k_proj", hidden, hidden, "attention"),
        v=linear("v_proj", hidden, hidden, "attention", True),
        o=linear("out_proj", hidden, hidden, "attention", True),
        position="none",
        causal=causal,
        cross=cross,
    )


def _layer(config: Config, hidden: int, side: str) -> Layer:
    decodes = side == "decoder"
    activation = activation_of(config, "gelu", "activation_function")
    mlp = plain_mlp(hidden, config.integer(f"{side}_ffn_dim"), activation=activation)
    own = Sublayer(_attention(config, hidden, side, causal=decodes), layer_norm("self_attn_layer_norm", hidden))
    last = Sublayer(mlp, layer_norm("final_layer_norm", hidden))
    if not decodes:
        return Layer((own, last))
    cross = _attention(config, hidden, side, causal=False, cross=True)
    return Layer((own, Sublayer(cross, layer_norm("encoder_attn_layer_norm", hidden)), last))


def _convolution(name: str, hidden: int, inputs: int) -> Module:
    return Module(name, "conv", "audio", (hidden, inputs, CONVOLUTION_KERNEL), hidden)


def _encoder(config: Config, hidden: int) -> Stack:
    positions = config.integer("max_source_positions", 1500)
    mels = config.integer("num_mel_bins", 80)
    stack = Stack(
        "audio",
        hidden,
        runs_of([_layer(config, hidden, "encoder")] * config.layers("encoder_layers")),
        before=(
            _convolution("conv1", hidden, mels),
            _convolution("conv2", hidden, hidden),
            embedding("embed_positions", positions, hidden),
        ),
        after=(layer_norm("layer_norm", hidden),),
        positions_per_sample=positions,
    )
    return recolored(stack, "audio")


def read_whisper(config: Config) -> ModelSpec:
    """model_type whisper: pre-norm blocks with LayerNorm, learned positions on both sides, tied head."""
    hidden, vocabulary = config.integer("d_model"), vocabulary_of(config)
    positions = config.integer("max_target_positions", 448)
    layers = config.layers("decoder_layers")
    return ModelSpec(
        model_type=config.text("model_type"),
        text=Stack(
            "text",
            hidden,
            runs_of([_layer(config, hidden, "decoder")] * layers),
            after=(layer_norm("layer_norm", hidden),),
        ),
        encoders=(_encoder(config, hidden),),
        embeddings=(embedding("embed_tokens", vocabulary, hidden), embedding("embed_positions", positions, hidden)),
        vocabulary=vocabulary,
        max_positions=positions,
        lm_head=linear("proj_out", hidden, vocabulary, "lm_head"),
        tied=config.flag("tie_word_embeddings", True),
        task="speech_seq2seq_lm",
        stored_dtype=stored_dtype(config),
        assumed=config.assumed,
    )


READERS: dict[str, Reader] = {"whisper": read_whisper}
