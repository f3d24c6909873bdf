"""Which steps are run: small models of many kinds, each in a few settings."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.models import SHARED, Config, experts, gated, gemma

Settings = dict[str, Any]


MODELS: dict[str, Config] = SHARED | {
    "llama-21m": gated("llama", 256, 688, 6, 4, 2, 32000),
    "llama-27m-narrow": gated("llama", 512, 1376, 8, 8, 2, 1000),
    "qwen3-90m": gated("qwen3", 512, 1536, 10, 8, 4, 50000) | {"tie_word_embeddings": True},
    "gemma3-105m": gemma(1, 65536, 256),
    "gemma3-32m-narrow": gemma(2, 1000, 128),
    "gpt2-86m-dropout": {
        "model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024, "vocab_size": 1000,
    },
    "gpt2-124m": {
        "model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024, "vocab_size": 50257,
        "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "tie_word_embeddings": True,
    },
    "mistral-72m": gated("mistral", 640, 1792, 9, 10, 5, 24000) | {"sliding_window": None},
    "phi3-46m": gated("phi3", 384, 1024, 7, 6, 6, 36000) | {"pad_token_id": 0},
    "opt-60m": {
        "model_type": "opt", "hidden_size": 512, "ffn_dim": 2048, "num_hidden_layers": 9, "num_attention_heads": 8,
        "vocab_size": 50272, "max_position_embeddings": 1024, "word_embed_proj_dim": 512, "dropout": 0.0,
    },
    "qwen3-moe-75m": experts(gated("qwen3_moe", 384, 1024, 6, 6, 2, 32000), 16, 4, 384),
}  # fmt: skip
SMALL: dict[str, Any] = {"hidden_size": 192, "num_hidden_layers": 3, "num_attention_heads": 3, "vocab_size": 4000}
WIDE: dict[str, Any] = {"intermediate_size": 512, "max_position_embeddings": 512, "pad_token_id": 0}
GROUPED: dict[str, Any] = {**SMALL, **WIDE, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 32}
ROUTED: dict[str, Any] = {"moe_intermediate_size": 128, "num_experts_per_tok": 2}
SMALL_MODELS: dict[str, dict[str, Any]] = {
    "llama": GROUPED, "qwen2": GROUPED, "qwen3": GROUPED, "mistral": GROUPED, "olmo2": GROUPED,
    "gemma2": GROUPED | {"sliding_window": 128, "query_pre_attn_scalar": 32}, "phi": {**SMALL, **WIDE}, "phi3": GROUPED,
    "gpt2": {"n_embd": 192, "n_layer": 3, "n_head": 3, "n_positions": 512, "vocab_size": 4000},
    "gpt_neox": {**SMALL, **WIDE}, "bloom": {"hidden_size": 192, "n_layer": 3, "n_head": 3, "vocab_size": 4000},
    "opt": {**SMALL, "ffn_dim": 512, "word_embed_proj_dim": 192, "max_position_embeddings": 512},
    "falcon": {**SMALL, "multi_query": True, "new_decoder_architecture": False, "parallel_attn": True},
    "mixtral": GROUPED | {"num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen3_moe": GROUPED | ROUTED | {"num_experts": 8}, "starcoder2": GROUPED,
    "deepseek_v3": {**SMALL, **WIDE, **ROUTED, "num_key_value_heads": 3, "q_lora_rank": 64, "kv_lora_rank": 32}
    | {"qk_nope_head_dim": 32, "qk_rope_head_dim": 16, "v_head_dim": 32, "n_routed_experts": 8, "n_group": 2}
    | {"topk_group": 1, "n_shared_experts": 1, "first_k_dense_replace": 1},
    "mamba": {"hidden_size": 192, "num_hidden_layers": 3, "state_size": 16, "vocab_size": 4000},
}  # fmt: skip
"""By model type; about a million parameters each, for `benchmarks.cpu.families`."""
MODELS.update({f"small-{name}": {"model_type": name, **values} for name, values in SMALL_MODELS.items()})


@dataclass(frozen=True, slots=True)
class Case:
    """One step. `dtype` holds for weights and computing; `autocast` computes float32 weights in bfloat16."""

    model: str
    method: str = "full"
    checkpointing: str = "none"
    dtype: str = "float32"
    batch: int = 1
    sequence: int = 512
    autocast: bool = False
    accumulation: int = 1
    attention: str = "sdpa"
    optimizer_impl: str = "for_loop"

    @property
    def config(self) -> dict[str, Any]:
        """The model's config.json."""
        return MODELS[self.model]

    @property
    def run(self) -> dict[str, Any]:
        """The same run in the contract's words."""
        return {
            "method": self.method,
            "weights_dtype": self.dtype,
            "compute_dtype": "bfloat16" if self.autocast else self.dtype,
            "optimizer": "adamw",
            "optimizer_impl": self.optimizer_impl,
            "sequence_length": self.sequence,
            "micro_batch_size": self.batch,
            "gradient_accumulation_steps": self.accumulation,
            "activation_checkpointing": self.checkpointing,
            "attention": self.attention,
        }

    def to_json(self) -> str:
        """For the command line of the process that runs it."""
        return json.dumps(asdict(self))

    @property
    def label(self) -> str:
        """Short, for a table."""
        extras = [
            "checkpoints" if self.checkpointing == "full" else "",
            "autocast" if self.autocast else "",
            self.attention if self.attention != "sdpa" else "",
            self.optimizer_impl if self.optimizer_impl != "for_loop" else "",
            f"{self.accumulation} micro-batches" if self.accumulation > 1 else "",
        ]
        return " ".join([self.method, self.dtype, *filter(None, extras)])


def _cases() -> list[Case]:
    lora: Settings = {"method": "lora"}
    bf16: Settings = {"dtype": "bfloat16"}
    checks: Settings = {"checkpointing": "full"}
    return [
        Case("llama-5m", sequence=256, batch=8),
        Case("llama-5m", sequence=1024, batch=4, **lora),
        Case("llama-21m", sequence=256, batch=4),
        Case("llama-21m", sequence=1024, batch=2, **bf16),
        Case("llama-21m", sequence=512, batch=4, **lora, **bf16),
        Case("llama-58m", sequence=128, batch=1),
        Case("llama-58m", sequence=512, batch=2),
        Case("llama-58m", sequence=512, batch=2, **checks),
        Case("llama-58m", sequence=512, batch=4, **bf16),
        Case("llama-58m", sequence=512, batch=4, **bf16, **checks),
        Case("llama-58m", sequence=1024, batch=1, attention="eager"),
        Case("llama-58m", sequence=512, batch=2, autocast=True),
        Case("llama-58m", sequence=512, batch=2, accumulation=2),
        Case("llama-58m", sequence=256, batch=2, optimizer_impl="fused"),
        Case("llama-58m", sequence=256, batch=2, optimizer_impl="foreach"),
        Case("llama-134m", sequence=256),
        Case("llama-134m", sequence=1024, **lora),
        Case("llama-134m", sequence=512, **lora, **bf16),
        Case("llama-134m", sequence=1024, **lora, **bf16, **checks),
        Case("llama-134m", sequence=512, **bf16, **checks),
        Case("qwen3-90m", sequence=512),
        Case("qwen3-90m", sequence=512, batch=2, **lora, **checks),
        Case("qwen3-90m", sequence=512, **lora, **bf16),
        Case("qwen3-90m", sequence=1024, **bf16),
        Case("gemma3-105m", sequence=256),
        Case("gemma3-105m", sequence=512, **lora),
        Case("gemma3-105m", sequence=512, **bf16, **checks),
        Case("gpt2-124m", sequence=256),
        Case("gpt2-124m", sequence=512, **lora),
        Case("gpt2-124m", sequence=512, **bf16, **checks),
        Case("qwen3-moe-75m", sequence=256),
        Case("qwen3-moe-75m", sequence=512, **bf16),
        Case("qwen3-moe-75m", sequence=512, **lora, **checks),
        Case("llama-27m-narrow", sequence=512, batch=2),
        Case("llama-27m-narrow", sequence=512, batch=2, **bf16),
        Case("llama-27m-narrow", sequence=512, batch=2, autocast=True),
        Case("llama-27m-narrow", sequence=512, batch=2, **lora, **bf16),
        Case("llama-27m-narrow", sequence=512, batch=4, **lora, **bf16, **checks),
        Case("llama-27m-narrow", sequence=512, batch=4, **lora, **checks),
        Case("llama-27m-narrow", sequence=512, batch=4, **checks),
        Case("gemma3-32m-narrow", sequence=512, batch=2, **lora),
        Case("gemma3-32m-narrow", sequence=512, batch=2, **bf16),
        Case("gpt2-86m-dropout", sequence=256, batch=2),
        Case("gpt2-86m-dropout", sequence=256, batch=2, **lora, **bf16),
    ]


def _held_out() -> list[Case]:
    """Other shapes and settings, run after the rules were written down; no figure was taken from them."""
    bf16: Settings = {"dtype": "bfloat16"}
    checks: Settings = {"checkpointing": "full"}
    return [
        Case("mistral-72m", sequence=384, batch=2),
        Case("mistral-72m", "lora", sequence=768, batch=1, **bf16),
        Case("mistral-72m", "lora", sequence=384, batch=3, **checks),
        Case("mistral-72m", sequence=384, batch=3, **bf16, **checks),
        Case("phi3-46m", sequence=512, batch=2, **bf16),
        Case("phi3-46m", "lora", sequence=512, batch=2),
        Case("opt-60m", sequence=300, batch=2),
        Case("opt-60m", "lora", sequence=300, batch=2, **bf16, **checks),
        Case("mixtral-63m", sequence=384, batch=1),
        Case("mixtral-63m", sequence=384, batch=2, **bf16, **checks),
    ]


CASES = _cases()
HELD_OUT = _held_out()
