"""T5, FLAN-T5 and mT5: encoder and decoder of the same blocks around one token table.

Source: transformers models/t5, models/mt5; arXiv 1910.10683, 2010.11934.
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import (
    called,
    gated_mlp,
    plain_mlp,
    projections,
    runs_of,
    stored_dtype,
    vocabulary_of,
)
from planner.architecture.config import MAXIMUM_HEADS, MAXIMUM_VOCABULARY, Config
from planner.architecture.reader import Reader
from planner.architecture.spec import (
    Attention,
    Layer,
    Mlp,
    ModelSpec,
    Note,
    Stack,
    Sublayer,
    embedding,
    linear,
    rms_norm,
)


def _feed_forward(config: Config, hidden: int, default: str) -> Mlp:
    """`feed_forward_proj`: an activation, or "gated-" and an activation; "gated-gelu" is the tanh form."""
    kind = config.text("feed_forward_proj", default)
    gate, _, activation = kind.rpartition("-")
    if gate not in ("", "gated"):
        raise config.error("feed_forward_proj", "an activation, or gated- and an activation")
    inner = config.integer("d_ff")
    if not gate:
        return plain_mlp(hidden, inner, bias=False, activation=activation, names=("wi", "wo"))
    return gated_mlp(hidden, inner, activation="gelu_new" if activation == "gelu" else activation)


def _attention(config: Config, hidden: int, *, causal: bool, cross: bool, table: bool) -> Attention:
    """Scores get a learned bias by relative distance; its table sits in the first layer and serves them all."""
    heads = config.integer("num_heads", maximum=MAXIMUM_HEADS)
    attention = projections(hidden, heads, heads, config.integer("d_kv", 64))
    buckets = config.integer("relative_attention_num_buckets", 32, maximum=MAXIMUM_VOCABULARY)
    bias = (embedding("relative_attention_bias", buckets, heads, "attention"),) if table else ()
    position = "none" if cross else "relative"
    return replace(attention, causal=causal, cross=cross, position=position, extra=bias)


def _stack(config: Config, name: str, layers: int, mlp: Mlp) -> Stack:
    hidden, decodes = config.integer("d_model"), name == "text"

    def layer(first: bool) -> Layer:
        own = _attention(config, hidden, causal=decodes, cross=False, table=first)
        crossing = _attention(config, hidden, causal=False, cross=True, table=False)
        sublayers = [Sublayer(own, rms_norm("layer_norm", hidden)), Sublayer(mlp, rms_norm("layer_norm", hidden))]
        if decodes:
            sublayers.insert(1, Sublayer(crossing, rms_norm("layer_norm", hidden)))
        return Layer(tuple(sublayers))

    built = [layer(True), *[layer(False)] * (layers - 1)] if layers else []
    return Stack(name, hidden, runs_of(built), after=(rms_norm("final_layer_norm", hidden),))


def _head_note(config: Config, elements: int) -> tuple[Note, ...]:
    if "tie_word_embeddings" not in config or config.flag("tie_word_embeddings"):
        return ()
    message = (
        "transformers 5 ties the output head of every T5 to the token table when it builds the model from its config; "
        f"this checkpoint stores a head of its own with {elements:,} parameters."
    )
    return (Note("library_ties_untied_head", message, elements),)


def _reader(feed_forward: str) -> Reader:
    def read(config: Config) -> ModelSpec:
        """model_type t5 and mt5."""
        hidden, vocabulary = config.integer("d_model"), vocabulary_of(config)
        mlp = _feed_forward(config, hidden, feed_forward)
        layers = config.layers(called(config, "num_layers", "num_hidden_layers"))
        decoder_layers = config.layers("num_decoder_layers") if "num_decoder_layers" in config else layers
        return ModelSpec(
            model_type=config.text("model_type"),
            text=_stack(config, "text", decoder_layers, mlp),
            encoders=(_stack(config, "encoder", layers, mlp),),
            embeddings=(embedding("shared", vocabulary, hidden),),
            vocabulary=vocabulary,
            max_positions=None,
            lm_head=linear("lm_head", hidden, vocabulary, "lm_head"),
            tied=True,
            task="seq2seq_lm",
            stored_dtype=stored_dtype(config),
            notes=_head_note(config, vocabulary * hidden),
            assumed=config.assumed,
        )

    return read


READERS: dict[str, Reader] = {"t5": _reader("relu"), "mt5": _reader("gated-gelu")}
