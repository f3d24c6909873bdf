"""BERT, RoBERTa and XLM-RoBERTa as masked language models.

Source: transformers models/bert, roberta, xlm_roberta; arXiv 1810.04805, 1907.11692, 1911.02116.
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import (
    activation_of,
    even_head_dim,
    plain_mlp,
    projections,
    runs_of,
    stored_dtype,
    token_embedding,
    vocabulary_of,
)
from planner.architecture.config import MAXIMUM_HEADS, Config
from planner.architecture.reader import Reader
from planner.architecture.spec import (
    Layer,
    ModelSpec,
    Stack,
    Sublayer,
    embedding,
    layer_norm,
    linear,
    parameter,
)


def _layer(config: Config, hidden: int) -> Layer:
    """Attention and MLP with biases, each added to its input and then normed."""
    heads = config.integer("num_attention_heads", maximum=MAXIMUM_HEADS)
    head_dim = even_head_dim(config, hidden, heads, "num_attention_heads")
    attention = projections(hidden, heads, heads, head_dim, qkv_bias=True, output_bias=True)
    attention = replace(attention, causal=False, position="none")
    mlp = plain_mlp(hidden, config.integer("intermediate_size"), activation=activation_of(config, "gelu"))
    return Layer(
        (
            Sublayer(attention, layer_norm("attention.output.LayerNorm", hidden), norm_after_residual=True),
            Sublayer(mlp, layer_norm("output.LayerNorm", hidden), norm_after_residual=True),
        )
    )


def read_bert(config: Config) -> ModelSpec:
    """model_type bert, roberta, xlm-roberta: three tables, a norm, the layers, and a head with a transform and a bias.

    The pooler and the next-sentence head are not part of the masked language model. When the head is not tied, the
    library keeps a second copy of its bias.
    """
    hidden, vocabulary = config.integer("hidden_size"), vocabulary_of(config)
    positions = config.integer("max_position_embeddings", 512)
    types = config.integer("type_vocab_size", 2)
    tied = config.flag("tie_word_embeddings", True)
    second_bias = () if tied else (parameter("predictions.bias", (vocabulary,), "lm_head"),)
    return ModelSpec(
        model_type=config.text("model_type"),
        text=Stack(
            "text",
            hidden,
            runs_of([_layer(config, hidden)] * config.layers()),
            before=(layer_norm("embeddings.LayerNorm", hidden),),
        ),
        embeddings=(
            token_embedding(config),
            embedding("position_embeddings", positions, hidden),
            embedding("token_type_embeddings", types, hidden),
        ),
        vocabulary=vocabulary,
        max_positions=positions,
        lm_head=linear("decoder", hidden, vocabulary, "lm_head", True),
        tied=tied,
        task="masked_lm",
        head_extra=(
            linear("transform.dense", hidden, hidden, "lm_head", True),
            layer_norm("transform.LayerNorm", hidden),
            *second_bias,
        ),
        stored_dtype=stored_dtype(config),
        assumed=config.assumed,
    )


READERS: dict[str, Reader] = {"bert": read_bert, "roberta": read_bert, "xlm-roberta": read_bert}
