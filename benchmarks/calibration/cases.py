"""Models and plans that no calibration runs: 5 to 500 million parameters, dense and with experts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from planner.contract import EstimateRequest

Config = dict[str, Any]


def _gated(model_type: str, hidden: int, inner: int, layers: int, heads: int, groups: int, vocabulary: int) -> Config:
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


def _experts(base: Config, count: int, chosen: int, inner: int) -> Config:
    routed = {"num_experts": count, "num_experts_per_tok": chosen, "moe_intermediate_size": inner}
    return base | routed | {"norm_topk_prob": True}


MODELS: dict[str, Config] = {
    "llama-5m": _gated("llama", 192, 512, 4, 3, 3, 8000),
    "qwen3-12m": _gated("qwen3", 256, 768, 8, 4, 2, 9000),
    "mistral-30m": _gated("mistral", 384, 1024, 9, 6, 3, 16000) | {"sliding_window": None},
    "gpt2-43m": {
        "model_type": "gpt2", "n_embd": 512, "n_layer": 6, "n_head": 8, "n_positions": 2048, "vocab_size": 40000,
        "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "tie_word_embeddings": True,
    },
    "llama-58m": _gated("llama", 512, 1376, 8, 8, 8, 32000),
    "gemma3-66m": _gated("gemma3_text", 512, 2048, 8, 4, 1, 65536)
    | {"tie_word_embeddings": True, "head_dim": 128, "sliding_window": 512, "query_pre_attn_scalar": 128}
    | {"layer_types": ["sliding_attention", "full_attention"] * 4, "hidden_activation": "gelu_pytorch_tanh"},
    "llama-134m": _gated("llama", 768, 2048, 12, 12, 4, 32000),
    "qwen3-270m": _gated("qwen3", 1024, 2816, 18, 16, 8, 32000),
    "llama-500m": _gated("llama", 1280, 3456, 20, 20, 20, 40000),
    "qwen3-moe-28m": _experts(_gated("qwen3_moe", 256, 704, 6, 4, 2, 12000), 16, 2, 256),
    "mixtral-63m": _gated("mixtral", 384, 640, 6, 6, 3, 20000) | {"num_local_experts": 8, "num_experts_per_tok": 2},
    "qwen3-moe-160m": _experts(_gated("qwen3_moe", 512, 1376, 8, 8, 4, 24000), 16, 4, 576),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    """One model in one plan."""

    model: str
    method: str
    dtype: str
    batch: int
    sequence: int
    checkpointing: str = "none"
    accumulation: int = 1

    @property
    def config(self) -> Config:
        """The model's config.json."""
        return MODELS[self.model]

    @property
    def name(self) -> str:
        """Short, and unlike every other's."""
        parts = [self.model, self.method, self.dtype, f"{self.batch}x{self.sequence}"]
        parts += ["checkpoints"] if self.checkpointing != "none" else []
        parts += [f"{self.accumulation} micro-batches"] if self.accumulation > 1 else []
        return " ".join(parts)

    @property
    def request(self) -> EstimateRequest:
        """The plan as a request on this machine."""
        run = {
            "method": self.method,
            "weights_dtype": self.dtype,
            "compute_dtype": self.dtype,
            "micro_batch_size": self.batch,
            "sequence_length": self.sequence,
            "activation_checkpointing": self.checkpointing,
            "gradient_accumulation_steps": self.accumulation,
        }
        place = {"device": "this-machine"}
        return EstimateRequest.model_validate({"model": {"config": self.config}, "machine": place, "run": run})


FLOAT32, BFLOAT16 = "float32", "bfloat16"
CASES = [
    Case("llama-5m", "full", FLOAT32, 1, 128),
    Case("llama-5m", "full", BFLOAT16, 8, 256),
    Case("llama-5m", "lora", FLOAT32, 2, 1024),
    Case("qwen3-12m", "full", FLOAT32, 2, 512),
    Case("qwen3-12m", "lora", BFLOAT16, 1, 2048),
    Case("qwen3-12m", "full", BFLOAT16, 4, 256, "full"),
    Case("mistral-30m", "full", FLOAT32, 2, 256, accumulation=2),
    Case("mistral-30m", "lora", FLOAT32, 1, 768, "full"),
    Case("mistral-30m", "full", BFLOAT16, 1, 1024),
    Case("gpt2-43m", "full", FLOAT32, 1, 512),
    Case("gpt2-43m", "lora", BFLOAT16, 2, 512),
    Case("llama-58m", "full", FLOAT32, 1, 128),
    Case("llama-58m", "full", BFLOAT16, 2, 512, "full"),
    Case("llama-58m", "lora", FLOAT32, 1, 2048),
    Case("llama-58m", "lora", BFLOAT16, 4, 128),
    Case("gemma3-66m", "full", FLOAT32, 1, 256),
    Case("gemma3-66m", "lora", BFLOAT16, 1, 1024, "full"),
    Case("llama-134m", "full", FLOAT32, 1, 256, "full"),
    Case("llama-134m", "full", BFLOAT16, 1, 512),
    Case("llama-134m", "lora", FLOAT32, 1, 512),
    Case("qwen3-270m", "full", BFLOAT16, 1, 256),
    Case("qwen3-270m", "lora", BFLOAT16, 1, 512, "full"),
    Case("llama-500m", "full", BFLOAT16, 1, 128),
    Case("llama-500m", "lora", FLOAT32, 1, 128),
    Case("qwen3-moe-28m", "full", FLOAT32, 1, 256),
    Case("qwen3-moe-28m", "full", BFLOAT16, 2, 512, "full"),
    Case("qwen3-moe-28m", "lora", FLOAT32, 1, 512),
    Case("mixtral-63m", "full", FLOAT32, 1, 384),
    Case("mixtral-63m", "lora", BFLOAT16, 1, 768),
    Case("qwen3-moe-160m", "full", BFLOAT16, 1, 256),
    Case("qwen3-moe-160m", "lora", FLOAT32, 1, 256, "full"),
]
