"""Small models that several benchmarks run, and the shape that most of them share."""

from __future__ import annotations

from typing import Any

Config = dict[str, Any]


def gated(model_type: str, hidden: int, inner: int, layers: int, heads: int, groups: int, vocabulary: int) -> Config:
    """A decoder with gated MLPs and grouped heads."""
    return {
        "model_type": model_type,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "head_dim": hidden // heads,
        "vocab_size": vocabulary,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": False,
    }


def gemma(groups: int, vocabulary: int, window: int) -> Config:
    """A decoder of eight layers, every other one with a sliding window, and a tied head."""
    return gated("gemma3_text", 512, 2048, 8, 4, groups, vocabulary) | {
        "tie_word_embeddings": True,
        "sliding_window": window,
        "query_pre_attn_scalar": 128,
        "layer_types": ["sliding_attention", "full_attention"] * 4,
        "hidden_activation": "gelu_pytorch_tanh",
    }


def experts(base: Config, count: int, chosen: int, inner: int) -> Config:
    """The same with a mixture of experts in each layer, as Qwen's models name it."""
    routed = {"num_experts": count, "num_experts_per_tok": chosen, "moe_intermediate_size": inner}
    return base | routed | {"norm_topk_prob": True}


SHARED: dict[str, Config] = {
    "llama-5m": gated("llama", 192, 512, 4, 3, 3, 8000),
    "llama-58m": gated("llama", 512, 1376, 8, 8, 8, 32000),
    "llama-134m": gated("llama", 768, 2048, 12, 12, 4, 32000),
    "mixtral-63m": gated("mixtral", 384, 640, 6, 6, 3, 20000) | {"num_local_experts": 8, "num_experts_per_tok": 2},
}
