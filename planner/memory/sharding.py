"""Data parallelism: how ZeRO stages split states, and what communication holds inside the allocator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from planner.architecture.spec import Layer, ModelSpec, layer_modules
from planner.memory.tensors import Tensors
from planner.step.rules import StepRules

ZERO_BUCKET_ELEMENTS: Final = 500_000_000
"""reduce_bucket_size and allgather_bucket_size of DeepSpeed's ZeRO 1 and 2 (deepspeed/runtime/zero/config.py)."""


@dataclass(frozen=True, slots=True)
class Sharding:
    """ZeRO (arXiv 1910.02054): stage 1 splits optimizer states, 2 gradients too, 3 parameters too (FSDP full shard)."""

    zero_stage: int
    ranks: int

    @property
    def optimizer_shards(self) -> int:
        """Ranks over which optimizer states and master weights are split."""
        return self.ranks if self.zero_stage >= 1 else 1

    @property
    def gradient_shards(self) -> int:
        """Ranks over which gradients are split."""
        return self.ranks if self.zero_stage >= 2 else 1

    @property
    def weight_shards(self) -> int:
        """Ranks over which parameters are split."""
        return self.ranks if self.zero_stage >= 3 else 1


def communication_bytes(spec: ModelSpec, rules: StepRules, tensors: list[Tensors], sharding: Sharding) -> int:
    """Gathered parameters and buckets on one device.

    Stage 0 on several devices: DistributedDataParallel's buckets hold a second copy of all gradients
    (gradient_as_bucket_view is off by default). Stages 1 and 2: one bucket. Stage 3 (FSDP2, fully_shard per layer):
    the root group (embeddings, final norm, head) stays gathered through forward and backward, the layer at work and
    the prefetched one are gathered, and the layer's gradients are reduced in a buffer of their own.
    """
    width = rules.adapter_width if rules.has_adapters else rules.gradient_width
    gradients = sum(t.elements * t.count for t in tensors) * width
    if sharding.zero_stage == 3:
        return _fully_sharded(spec, rules)
    if sharding.ranks == 1:
        return 0
    return gradients if sharding.zero_stage == 0 else min(gradients, ZERO_BUCKET_ELEMENTS * width)


def _fully_sharded(spec: ModelSpec, rules: StepRules) -> int:
    width = rules.compute_width
    root = sum(table.elements for table in spec.embeddings) + sum(m.elements for m in spec.text.after)
    if spec.lm_head is not None and not spec.tied:
        root += spec.lm_head.elements
    largest = max((_layer_elements(run.layer) for stack in spec.stacks for run in stack.runs), default=0)
    reduced = largest * rules.gradient_width if rules.trains_base else 0
    return root * width + 2 * largest * width + reduced


def _layer_elements(layer: Layer) -> int:
    return sum(module.elements for module in layer_modules(layer))
