"""DeepSeek V3.2 and GLM-5: latent attention with an indexer that picks the keys each query sees; GLM-4.7-Flash without.

Source: transformers models/deepseek_v32, glm_moe_dsa, glm4_moe_lite (modeling and configuration files); arXiv
2512.02556 (DeepSeek sparse attention), 2603.12201 (indexers shared between layers).
"""

from __future__ import annotations

from planner.architecture.blocks import decoder, layers_by
from planner.architecture.config import MAXIMUM_HEADS, MAXIMUM_LAYERS, Config
from planner.architecture.experts import first_dense, latent_attention, sparse_by_type
from planner.architecture.families.deepseek_v3 import deepseek_layers, with_prediction_layers
from planner.architecture.reader import Reader
from planner.architecture.spec import LatentAttention, Layer, ModelSpec, Module, layer_norm, linear


def indexer(config: Config) -> tuple[Module, ...]:
    """The indexer's weights: queries from the latent query, one key head, a weight per head and position."""
    hidden, dim = config.integer("hidden_size"), config.integer("index_head_dim")
    heads = config.integer("index_n_heads", maximum=MAXIMUM_HEADS)
    return (
        linear("indexer.wq_b", config.integer("q_lora_rank"), heads * dim, "attention"),
        linear("indexer.wk", hidden, dim, "attention"),
        layer_norm("indexer.k_norm", dim),
        linear("indexer.weights_proj", hidden, heads, "attention"),
    )


def indexed_attention(config: Config, has_indexer: bool) -> LatentAttention:
    """Latent attention with or without an indexer of its own (without: it uses an earlier layer's choice)."""
    return latent_attention(config, indexer(config) if has_indexer else ())


def own_indexers(config: Config, count: int) -> list[bool]:
    """Which layers have an indexer: `indexer_types`, `index_topk_pattern`, or every `index_topk_freq`-th layer."""
    names = config.items("indexer_types", count)
    if names is None and isinstance(config.values.get("index_topk_pattern"), str):
        pattern = config.values["index_topk_pattern"]
        if len(pattern) != count or not set(pattern) <= set("FS"):
            raise config.error("index_topk_pattern", f"a string of {count} letters F or S")
        return [letter == "F" for letter in pattern]
    if names is None:
        names = config.items("index_topk_pattern", count)
    if names is None:
        every = max(config.integer("index_topk_freq", minimum=0), 1) if "index_topk_freq" in config else 1
        name = "index_skip_topk_offset"
        offset = config.integer(name, minimum=0, maximum=MAXIMUM_LAYERS) if name in config else 2
        return [max(index - offset + 1, 0) % every == 0 for index in range(count)]
    if any(name not in ("full", "shared") for name in names):
        raise config.error("indexer_types", "a list of full and shared")
    return [name == "full" for name in names]


def with_indexers(config: Config, has_indexer: list[bool], first: int) -> list[Layer]:
    """The layers: experts by `mlp_layer_types` or after `first` dense layers, indexers where `has_indexer`."""
    sparse = sparse_by_type(config, len(has_indexer), first)

    def layer(kind: tuple[bool, bool]) -> Layer:
        return deepseek_layers(config, indexed_attention(config, kind[0]), [kind[1]])[0]

    return layers_by(list(zip(has_indexer, sparse, strict=True)), layer)


def read_deepseek_v32(config: Config) -> ModelSpec:
    """model_type deepseek_v32: an indexer in every layer; an MTP layer is stored with token table and head."""
    layers = with_indexers(config, [True] * config.layers(), first_dense(config, 3))
    prediction_layer = deepseek_layers(config, indexed_attention(config, True), [True])[0]
    return with_prediction_layers(decoder(config, layers), config, prediction_layer, vocabulary_copies=2)


def read_glm_moe_dsa(config: Config) -> ModelSpec:
    """model_type glm_moe_dsa (GLM-5): layers may share an indexer; an MTP layer shares token table and head."""
    layers = with_indexers(config, own_indexers(config, config.layers()), first_dense(config, 3))
    prediction_layer = deepseek_layers(config, indexed_attention(config, True), [True])[0]
    return with_prediction_layers(decoder(config, layers), config, prediction_layer, vocabulary_copies=0)


def read_glm4_moe_lite(config: Config) -> ModelSpec:
    """model_type glm4_moe_lite (GLM-4.7-Flash): latent attention, no indexer; one dense layer unless listed."""
    attention = latent_attention(config)
    layers = deepseek_layers(config, attention, sparse_by_type(config, config.layers(), 1))
    prediction_layer = deepseek_layers(config, attention, [True])[0]
    return with_prediction_layers(decoder(config, layers), config, prediction_layer, vocabulary_copies=2)


READERS: dict[str, Reader] = {
    "deepseek_v32": read_deepseek_v32,
    "glm_moe_dsa": read_glm_moe_dsa,
    "glm4_moe_lite": read_glm4_moe_lite,
}
