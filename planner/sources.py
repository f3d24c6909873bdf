"""What each term of the ledger is, how it is computed in words, and where the rule comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class TermSource:
    """One term: what it is, its formula in words, its source."""

    what: str
    formula: str
    source: str


_TERMS: Final = {
    "weights": TermSource(
        "base weights",
        "sum over tensors of elements x bytes of the dtype; nf4: elements / 2; int8: elements; / ranks under ZeRO-3",
        "architecture counted from config.json; bitsandbytes functional.quantize_4bit; arXiv 1910.02054",
    ),
    "adapters": TermSource(
        "low-rank adapters and modules_to_save",
        "rank x (in + out) x bytes of the adapter dtype, for each adapted nn.Linear",
        "arXiv 2106.09685; peft tuners/lora/layer.py",
    ),
    "quantization_state": TermSource(
        "scales of the quantised base",
        "nf4: 4 B per 64 weights, or 1 B per 64 + 4 B per 16,384 with double quantisation; int8: 4 B per output row",
        "arXiv 2305.14314; bitsandbytes functional.QuantState",
    ),
    "gradients": TermSource(
        "gradients of trained parameters",
        "trained elements x bytes of the gradient dtype, as far as backward has come at the peak",
        "torch autograd: .grad has its parameter's dtype",
    ),
    "optimizer_states": TermSource(
        "optimizer states",
        "adamw: 2 x elements x dtype; 8 bit: 2 x (1 B + 4 B / 256); adafactor: rows + columns; momentum, lion: 1 x",
        "torch.optim; bitsandbytes optim/optimizer.py; arXiv 1804.04235, 2302.06675",
    ),
    "master_weights": TermSource(
        "float32 master copy", "4 B x trained elements", "deepspeed runtime/bf16_optimizer.py; arXiv 1710.03740"
    ),
    "activations": TermSource(
        "kept for backward",
        "what each operation's derivative needs, layer by layer, and the block being recomputed",
        "torch tools/autograd/derivatives.yaml; transformers modeling files; torch utils/checkpoint.py",
    ),
    "logits_and_loss": TermSource(
        "logits, float32 copies and their gradients",
        "micro-batch x sequence x vocabulary x bytes of the loss code",
        "transformers loss/loss_utils.py; torchtune CEWithChunkedOutputLoss; Liger fused linear cross-entropy",
    ),
    "temporaries": TermSource(
        "in flight at the peak",
        "gradients of activations, dequantised weights, autocast copies, the optimizer step's own tensors",
        "torch csrc/autograd/engine.cpp; torch/optim; bitsandbytes autograd/_functions.py",
    ),
    "communication": TermSource(
        "gathered parameters and gradient buckets",
        "DDP: a copy of all gradients; ZeRO 1, 2: one bucket; ZeRO-3: root group, 2 layers, whole gradients",
        "arXiv 1910.02054; torch DistributedDataParallel; torch/distributed/fsdp/_fully_shard",
    ),
    "fragmentation": TermSource(
        "reserved but not allocated at the peak",
        "7 % of allocated (native); 1/64 and the 16-bit logits (expandable); CPU: the C library's; FSDP: others' pools",
        "low end of published reserved / allocated ratios; planner/memory/processor.py, own CPU measurements",
    ),
    "outside_allocator": TermSource(
        "driver context, kernels, libraries",
        "per device, from the catalogue",
        "catalogue: measured where known, else a prior of the class",
    ),
}  # fmt: skip


def source_of(term: str) -> TermSource:
    """The description of a term.

    Raises:
        KeyError: not a term of the contract.
    """
    return _TERMS[term]
