"""Published configurations cut down so that a trace takes about a second and the layers decide the peak."""

from __future__ import annotations

import copy
from typing import Any

from planner.catalog.models import all_models, model

DEPTHS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
SECOND_DEPTHS = ("num_decoder_layers", "encoder_layers", "decoder_layers")
IDLE_EXPERTS = ("zero_expert_num",)
SHARING = ("num_kv_shared_layers",)
EXPERTS = ("num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts")
SECOND_VOCABULARIES = ("vocab_size_per_layer_input",)
SHARED_LAYERS = ("num_kv_shared_layers",)
VOCABULARY = 2048


def reduced_config(model_type: str, layers: int = 4, experts: int = 16) -> dict[str, Any]:
    """The first catalogued config of the type with fewer layers and experts and a small vocabulary.

    `gpt_neo` names its layers in a list of another form, which is written anew. Of a model with towers the text model
    is reduced; the towers stand idle.
    """
    return reduced_model(
        next(entry.id for entry in all_models() if entry.config["model_type"] == model_type), layers, experts
    )


def reduced_model(model_id: str, layers: int, experts: int) -> dict[str, Any]:
    """The config of one model of the catalogue, reduced alike."""
    entry = model(model_id)
    config = copy.deepcopy(dict(entry.config))
    if "text_config" in config:
        return {**config, "text_config": _reduced(config["text_config"], layers, experts)}
    return _reduced(config, layers, experts)


def _reduced(config: dict[str, Any], layers: int, experts: int) -> dict[str, Any]:
    depth_name = next((name for name in DEPTHS if name in config), SECOND_DEPTHS[1])
    depth = config[depth_name]
    for name, value in config.items():
        if isinstance(value, list) and len(value) == depth:
            config[name] = value[:layers]
    config |= {depth_name: layers, "vocab_size": VOCABULARY, "pad_token_id": 0}
    config |= {name: min(config[name], experts) for name in EXPERTS if isinstance(config.get(name), int)}
    config |= {name: layers for name in SECOND_DEPTHS if name in config}
    config |= {name: min(config[name], experts) for name in IDLE_EXPERTS if name in config}
    config |= {name: min(config[name], layers // 2) for name in SHARING if name in config}
    config |= {name: VOCABULARY for name in SECOND_VOCABULARIES if name in config}
    config |= {name: layers // 2 for name in SHARED_LAYERS if config.get(name)}
    special = {name: min(value, VOCABULARY - 1) for name, value in config.items() if is_token(name, value)}
    if config["model_type"] == "gpt_neo":
        special |= {"attention_types": [[["global", "local"], layers // 2]]}
    if config["model_type"] == "mllama_text_model":
        special |= {"cross_attention_layers": [1]}
    return config | special


def is_token(name: str, value: object) -> bool:
    """Whether the field is the number of one token."""
    return name.endswith("_token_id") and isinstance(value, int)
