"""Data parallelism: how ZeRO stages split states, and what communication holds inside the allocator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from planner.architecture.spec import Layer, ModelSpec, layer_modules
from planner.memory.tensors import Tensors
from planner.memory.weights import packed_bytes
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


@dataclass(frozen=True, slots=True)
class Communication:
    """Bytes that communication holds inside the allocator at each moment of the run.

    `idle` are bytes of other streams' pools: the caching allocator hands a block out again only on the stream that it
    was made for (c10/cuda/CUDACachingAllocator.cpp), so that they stay reserved when they are free.
    """

    forward: int = 0
    loss: int = 0
    backward: int = 0
    optimizer_step: int = 0
    evaluation: int = 0
    idle: int = 0

    def at(self, moment: str) -> int:
        """Bytes at one moment; nothing is gathered while loading and saving."""
        held = {
            "forward": self.forward, "loss": self.loss, "backward": self.backward,
            "optimizer_step": self.optimizer_step, "evaluation": self.evaluation,
        }  # fmt: skip
        return held.get(moment, 0)


def communication(spec: ModelSpec, rules: StepRules, tensors: list[Tensors], sharding: Sharding) -> Communication:
    """Gathered parameters and buckets on one device.

    Stage 0 on several devices: DistributedDataParallel's buckets hold a second copy of all gradients
    (gradient_as_bucket_view is off by default). Stages 1 and 2: one bucket. Stage 3: `_fully_sharded`.
    """
    width = rules.adapter_width if rules.has_adapters else rules.gradient_width
    gradients = sum(t.elements * t.count for t in tensors) * width
    if sharding.zero_stage == 3:
        return _fully_sharded(spec, rules, gradients, sharding)
    if sharding.ranks == 1:
        return Communication()
    bucket = gradients if sharding.zero_stage == 0 else min(gradients, ZERO_BUCKET_ELEMENTS * width)
    return Communication(bucket, bucket, bucket, bucket, bucket)


def _fully_sharded(spec: ModelSpec, rules: StepRules, gradients: int, sharding: Sharding) -> Communication:
    """FSDP with one group a layer and a root group of embeddings, final norm and head (fully_shard; ZeRO-3 alike).

    The root group stays gathered from forward to the end of backward, beside the layer at work and the next one, which
    is fetched ahead; torchtitan keeps the last layer gathered for the loss (distributed/fsdp.py). Backward holds the
    layer's whole gradients, the head's, which the root group reduces last, and the reduction's input of the layer
    before (torch/distributed/fsdp/_fully_shard/_fsdp_collectives.py foreach_reduce). Without synchronisation between
    micro-batches, as litgpt runs them (fabric.no_backward_sync), whole gradients pile up on every device. All-gathers
    and reductions allocate on streams of their own: those pools' bytes are idle at every other moment.
    """
    width, tied = rules.compute_width, spec.tied or spec.lm_head is None
    head = 0 if spec.lm_head is None else spec.lm_head.elements
    root = sum(table.elements for table in spec.embeddings) + sum(m.elements for m in spec.text.after)
    root = (root if tied else root + head) * width
    largest = max((_layer_elements(run.layer) for stack in spec.stacks for run in stack.runs), default=0)
    layer = max((_gathered_bytes(run.layer, rules) for stack in spec.stacks for run in stack.runs), default=0)
    unsynchronised = gradients if rules.framework == "litgpt" and rules.accumulate else 0
    at_work = root + 2 * layer + unsynchronised
    reduced = largest * (width + rules.gradient_width) + head * width if rules.trains_base else 0
    idle = 0 if rules.framework == "deepspeed" else root + layer + gradients // sharding.ranks
    kept = root + (layer if rules.framework == "torchtitan" else 0) + unsynchronised
    return Communication(at_work, kept, at_work + reduced, unsynchronised, root + 2 * layer, idle)


def _gathered_bytes(layer: Layer, rules: StepRules) -> int:
    """A layer's parameters as they are gathered: FSDP gathers 4-bit weights packed, as it shards them.

    It shards float dtypes only, so that bitsandbytes lays packed weights into one (`bnb_4bit_quant_storage`,
    bitsandbytes docs/source/fsdp_qlora.md). DeepSpeed is counted as if it gathered 16 bit: the one published run
    (Llama 2 70B on two A100) needs as much, for what it keeps live and fetched ahead.
    """
    width, packed = rules.compute_width, rules.scheme == "nf4" and rules.framework != "deepspeed"
    return sum(
        packed_bytes(module, rules) + module.bias * width if packed and rules.quantises(module)
        else module.elements * width
        for module in layer_modules(layer)
    )  # fmt: skip


def _layer_elements(layer: Layer) -> int:
    return sum(module.elements for module in layer_modules(layer))
