"""What one trace runs, in the words of the contract."""

from dataclasses import dataclass
from typing import Literal

Method = Literal["full", "lora", "dora", "freeze"]
Optimizer = Literal["adamw", "sgd", "sgd_momentum", "adafactor", "muon"]
OptimizerImplementation = Literal["for_loop", "foreach", "fused"]
Attention = Literal["sdpa", "eager", "flash_attention"]
Checkpointing = Literal["none", "full"]
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
    """

    method: Method = "full"
    trainable_layers: int = 2
    lora_rank: int = 16
    target_modules: str | tuple[str, ...] = "all-linear"
    adapter_dtype: str = "float32"
    lora_dropout: float = 0.0
    weights_dtype: str = "bfloat16"
    compute_dtype: str = "bfloat16"
    optimizer: Optimizer = "adamw"
    optimizer_impl: OptimizerImplementation = "foreach"
    sequence_length: int = 2048
    micro_batch_size: int = 1
    gradient_accumulation_steps: int = 1
    activation_checkpointing: Checkpointing = "none"
    attention: Attention = "sdpa"
    layers_override: int | None = None
    rounding_bytes: int = 512
    max_grad_norm: float = 1.0
    target: Target = "cuda"
    fused_attention: bool = True
    library_scratch: bool = True
    experts_implementation: ExpertsImplementation | None = None

    @property
    def tokens(self) -> int:
        """Tokens in one micro-batch."""
        return self.sequence_length * self.micro_batch_size

    @property
    def autocast(self) -> bool:
        """The Trainer turns autocast on when it is told to compute in another dtype than the weights are kept in."""
        return self.compute_dtype != self.weights_dtype
