"""The small real models that a calibration runs, each in a few plans: they show what curves alone don't."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from planner.contract import EstimateRequest


def _llama(hidden: int, inner: int, layers: int, heads: int, groups: int, vocabulary: int) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "vocab_size": vocabulary,
        "tie_word_embeddings": False,
        "max_position_embeddings": 4096,
    }


SMALL: Final = _llama(256, 704, 5, 4, 2, 6000)
WIDE: Final = _llama(640, 1728, 4, 10, 10, 24000)
CLASSIC: Final[dict[str, Any]] = {
    "model_type": "gpt2", "n_embd": 448, "n_layer": 5, "n_head": 7, "n_positions": 2048, "vocab_size": 12000,
    "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "tie_word_embeddings": True,
}  # fmt: skip
EXPERTS: Final = _llama(320, 896, 4, 5, 5, 10000) | {
    "model_type": "qwen3_moe", "head_dim": 64, "num_experts": 8, "num_experts_per_tok": 2,
    "moe_intermediate_size": 448, "norm_topk_prob": True,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Example:
    """One model in one plan."""

    label: str
    config: dict[str, Any]
    run: dict[str, Any]

    @property
    def request(self) -> EstimateRequest:
        """The same as a request on this machine."""
        model = {"config": self.config}
        return EstimateRequest.model_validate({"model": model, "machine": {"device": "this-machine"}, "run": self.run})


def _example(
    name: str, config: dict[str, Any], method: str, dtype: str, batch: int, sequence: int, checkpointing: str = "none"
) -> Example:
    run: dict[str, Any] = {
        "method": method,
        "weights_dtype": dtype,
        "compute_dtype": dtype,
        "micro_batch_size": batch,
        "sequence_length": sequence,
        "activation_checkpointing": checkpointing,
    }
    marks = " checkpoints" if checkpointing != "none" else ""
    return Example(f"{name} {method} {dtype} {batch} x {sequence}{marks}", config, run)


def examples(dtypes: tuple[str, ...]) -> list[Example]:
    """The plans that are run, in dtypes that the device has; float32 first."""
    wide, low = dtypes[0], dtypes[-1]
    return [
        _example("llama-small", SMALL, "full", wide, 1, 128),
        _example("llama-small", SMALL, "lora", low, 1, 256),
        _example("llama-small", SMALL, "full", low, 2, 512),
        _example("llama-small", SMALL, "lora", wide, 1, 1536, "full"),
        _example("llama-wide", WIDE, "full", wide, 1, 256),
        _example("llama-wide", WIDE, "lora", wide, 1, 768),
        _example("llama-wide", WIDE, "full", low, 2, 512, "full"),
        _example("llama-wide", WIDE, "lora", low, 2, 384),
        _example("gpt2-classic", CLASSIC, "full", wide, 2, 384, "full"),
        _example("gpt2-classic", CLASSIC, "lora", low, 1, 1024),
        _example("qwen3-experts", EXPERTS, "full", wide, 1, 384),
        _example("qwen3-experts", EXPERTS, "full", low, 1, 768, "full"),
        _example("qwen3-experts", EXPERTS, "lora", wide, 2, 256),
    ]
