"""What one trace runs, in the words of the contract."""

from dataclasses import dataclass
from typing import Literal

Method = Literal["full", "lora", "qlora", "dora", "freeze"]
Objective = Literal["causal_lm", "sequence_classification"]
Quantization = Literal["nf4", "int8"]
Loss = Literal["full_logits", "chunked", "fused_linear"]
Optimizer = Literal[
    "adamw",
    "adamw_8bit",
    "paged_adamw",
    "paged_adamw_8bit",
    "adafactor",
    "sgd",
    "sgd_momentum",
    "lion",
    "muon",
]
OptimizerImplementation = Literal["for_loop", "foreach", "fused"]
Attention = Literal["sdpa", "eager", "flash_attention"]
Checkpointing = Literal["none", "full", "selective_op", "selective_attention"]
Target = Literal["cuda", "cpu"]
ExpertsImplementation = Literal["grouped_mm", "batched_mm"]


@dataclass(frozen=True, slots=True)
class TraceSettings:
    """One training step, as plain values with the names of the contract's `run`.

    `target` says whose kernels are modelled: "cuda" replaces what the CPU would do in attention, dropout and
    autocast by what CUDA does; "cpu" leaves torch alone. `fused_attention` False is an accelerator without a fused
    backward, on which sdpa takes the math path. `rounding_bytes` is what the target's allocator rounds a
    storage up to: 512 on CUDA (c10/cuda/CUDACachingAllocator.cpp, kMinBlockSize), 64 in torch's CPU allocator.
    `library_scratch` adds what the target's kernels allocate inside one op (see `scratch.py`).
    `max_grad_norm` is the Trainer's default (transformers/training_args.py); 0 means no clipping.
    `quantization` is read when the method is qlora. `checkpoint_every` is n for the contract's {"every_nth": n}.
    `expert_imbalance` is the rows of the busiest routed expert over the mean.
    With `optimizer_in_backward` each parameter has an optimizer of its own, and nothing is clipped.
    """

    method: Method = "full"
    trainable_layers: int = 2
    lora_rank: int = 16
    target_modules: str | tuple[str, ...] = "all-linear"
    adapter_dtype: str = "float32"
    lora_dropout: float = 0.0
    quantization: Quantization = "nf4"
    double_quant: bool = True
    weights_dtype: str = "bfloat16"
    compute_dtype: str = "bfloat16"
    optimizer: Optimizer = "adamw"
    optimizer_impl: OptimizerImplementation = "foreach"
    optimizer_in_backward: bool = False
    sequence_length: int = 2048
    micro_batch_size: int = 1
    gradient_accumulation_steps: int = 1
    activation_checkpointing: Checkpointing = "none"
    checkpoint_every: int = 1
    loss: Loss = "full_logits"
    loss_chunks: int = 8
    objective: Objective = "causal_lm"
    num_labels: int = 2
    attention: Attention = "sdpa"
    layers_override: int | None = None
    rounding_bytes: int = 512
    max_grad_norm: float = 1.0
    target: Target = "cuda"
    fused_attention: bool = True
    library_scratch: bool = True
    experts_implementation: ExpertsImplementation | None = None
    expert_imbalance: float = 1.0
    trainer_autocast: bool = False

    @property
    def tokens(self) -> int:
        """Tokens in one micro-batch."""
        return self.sequence_length * self.micro_batch_size

    @property
    def autocast(self) -> bool:
        """The Trainer turns autocast on when it is told to compute in another dtype than the weights are kept in.

        Some trainers tell it always (`trainer_autocast`).
        """
        return self.trainer_autocast or self.compute_dtype != self.weights_dtype
