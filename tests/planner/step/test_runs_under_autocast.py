"""Adapters, quantised bases and selective checkpoints, by themselves and under autocast over float32, against a trace.

Each was off when a pairwise sample first met it (docs/accuracy.md).
"""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.slow

BASE: dict[str, Any] = {
    "family": "llama", "method": "full", "activation_checkpointing": "none", "loss": "full_logits", "attention": "sdpa",
    "optimizer": "adamw fused", "precision": "bfloat16", "gradient_accumulation_steps": 1, "micro_batch_size": 2,
    "sequence_length": 512,
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("changes", "percent"),
    [
        ({"method": "qlora", "precision": "float32 autocast"}, 0.1),
        ({"method": "qlora", "precision": "float32 autocast", "activation_checkpointing": "full"}, 0.1),
        ({"method": "dora"}, 0.1),
        ({"method": "dora", "precision": "float32"}, 0.1),
        ({"method": "dora", "precision": "float32 autocast"}, 1.0),
        ({"activation_checkpointing": "selective_op"}, 0.1),
        ({"activation_checkpointing": "selective_op", "method": "lora"}, 0.1),
        ({"activation_checkpointing": "selective_op", "method": "qlora", "precision": "float32 autocast"}, 0.1),
        ({"activation_checkpointing": "selective_op", "family": "qwen3_moe"}, 0.1),
        ({"family": "granitemoe", "method": "qlora", "precision": "float32 autocast"}, 0.1),
        ({"family": "qwen3_moe", "method": "lora", "precision": "float32 autocast"}, 1.5),
        ({"family": "llama", "method": "dora", "activation_checkpointing": "selective_op"}, 0.5),
        ({"family": "qwen2", "activation_checkpointing": "selective_op"}, 0.5),
        ({"family": "bamba", "method": "lora", "precision": "float32 autocast"}, 0.5),
        ({"family": "dbrx", "activation_checkpointing": "full"}, 1.0),
        ({"family": "mistral3", "method": "lora"}, 0.1),
        ({"family": "falcon", "method": "qlora"}, 3.5),
        ({"family": "apertus", "method": "lora", "precision": "float32 autocast"}, 0.5),
        ({"method": "freeze", "loss": "chunked", "attention": "eager", "precision": "float32 autocast"}, 1.5),
        ({"family": "mllama", "method": "lora", "activation_checkpointing": "every second"}, 0.5),
        ({"family": "gpt_bigcode", "method": "lora", "attention": "eager"}, 1.0),
        ({"family": "qwen3", "method": "lora", "attention": "eager", "precision": "float32 autocast"}, 0.2),
        ({"family": "mixtral", "precision": "float32 autocast"}, 0.1),
        ({"family": "gpt_oss", "precision": "float32 autocast"}, 0.2),
    ],
    ids=lambda value: " ".join(map(str, value.values())) if isinstance(value, dict) else None,
)
def test_the_peak_is_the_traces(changes: dict[str, Any], percent: float) -> None:
    from benchmarks.pairwise.compare import compare

    assert abs(compare(BASE | changes).off("peak")) <= percent / 100
