"""Models and plans that no calibration runs: 5 to 500 million parameters, dense and with experts."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.models import SHARED, Config, experts, gated, gemma
from planner.contract import EstimateRequest

MODELS: dict[str, Config] = SHARED | {
    "qwen3-12m": gated("qwen3", 256, 768, 8, 4, 2, 9000),
    "mistral-30m": gated("mistral", 384, 1024, 9, 6, 3, 16000) | {"sliding_window": None},
    "gpt2-43m": {
        "model_type": "gpt2", "n_embd": 512, "n_layer": 6, "n_head": 8, "n_positions": 2048, "vocab_size": 40000,
        "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "tie_word_embeddings": True,
    },
    "gemma3-66m": gemma(1, 65536, 512),
    "qwen3-270m": gated("qwen3", 1024, 2816, 18, 16, 8, 32000),
    "llama-500m": gated("llama", 1280, 3456, 20, 20, 20, 40000),
    "qwen3-moe-28m": experts(gated("qwen3_moe", 256, 704, 6, 4, 2, 12000), 16, 2, 256),
    "qwen3-moe-160m": experts(gated("qwen3_moe", 512, 1376, 8, 8, 4, 24000), 16, 4, 576),
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
