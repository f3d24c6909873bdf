"""Optimizer states and what an optimizer step allocates for its own work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from planner.memory.tensors import Tensors
from planner.step.rules import BYTES
from planner.step.sizes import ceiling_division, rounded

FLOAT32 = 4
EIGHT_BIT_BLOCK = 256
EIGHT_BIT_MINIMUM = 4096
PAGED = {"paged_adamw", "paged_adamw_8bit"}


@dataclass(frozen=True, slots=True)
class OptimizerChoice:
    """The optimizer with its implementation; `embeddings_in_32_bit` is the transformers Trainer's rule for 8 bit."""

    name: str
    implementation: str
    state_dtype: str
    embeddings_in_32_bit: bool
    step_on_device: bool
    rounding: int

    @property
    def paged(self) -> bool:
        """Whether states are managed memory that lives in host RAM when the device is full."""
        return self.name in PAGED


def state_bytes(choice: OptimizerChoice, tensors: list[Tensors], shards: int = 1) -> int:
    """Bytes of all states on one device, each tensor rounded, split over `shards` devices.

    Raises:
        KeyError: unknown optimizer name (the contract's enumeration forbids it).
    """
    sizes = _STATES[choice.name]
    return sum(
        t.count * sum(rounded(ceiling_division(n, shards), choice.rounding) for n in sizes(choice, t)) for t in tensors
    )


def _adamw(choice: OptimizerChoice, t: Tensors) -> tuple[int, ...]:
    """Two moments in the state's dtype (torch.optim.AdamW) and, when fused, a float32 step counter on the device."""
    moment = t.elements * BYTES[choice.state_dtype]
    return (moment, moment, FLOAT32) if choice.step_on_device else (moment, moment)


def _adamw_8bit(choice: OptimizerChoice, t: Tensors) -> tuple[int, ...]:
    """Two moments of one byte with a float32 scale per 256 each; tensors under 4096 elements stay in 32 bit.

    Source: bitsandbytes optim/optimizer.py Optimizer2State.init_state (min_8bit_size, blocksize 256). The
    transformers Trainer registers embeddings for 32 bit (trainer.py create_optimizer, GlobalOptimManager).
    """
    if t.elements < EIGHT_BIT_MINIMUM or (t.embedding and choice.embeddings_in_32_bit):
        return (t.elements * FLOAT32,) * 2
    scales = ceiling_division(t.elements, EIGHT_BIT_BLOCK) * FLOAT32
    return (t.elements, t.elements, scales, scales)


def _adafactor(choice: OptimizerChoice, t: Tensors) -> tuple[int, ...]:
    """Row and column statistics of a matrix, a full one of a vector (arXiv 1804.04235; no first moment by default)."""
    width = BYTES[choice.state_dtype]
    if len(t.shape) < 2:
        return (t.elements * width,)
    return (t.elements // t.shape[-1] * width, t.elements // t.shape[-2] * width)


def _one_moment(choice: OptimizerChoice, t: Tensors) -> tuple[int, ...]:
    """One moment: SGD's momentum buffer, Lion's (arXiv 2302.06675)."""
    return (t.elements * BYTES[choice.state_dtype],)


def _muon(choice: OptimizerChoice, t: Tensors) -> tuple[int, ...]:
    """One momentum of hidden matrices; embeddings, head, norms and vectors run under AdamW (torch.optim.Muon)."""
    return _one_moment(choice, t) if t.hidden_matrix else _adamw(choice, t)


def _none(_choice: OptimizerChoice, _t: Tensors) -> tuple[int, ...]:
    """Plain SGD keeps nothing."""
    return ()


_STATES: dict[str, Callable[[OptimizerChoice, Tensors], tuple[int, ...]]] = {
    "adamw": _adamw,
    "paged_adamw": _adamw,
    "adamw_8bit": _adamw_8bit,
    "paged_adamw_8bit": _adamw_8bit,
    "adafactor": _adafactor,
    "sgd": _none,
    "sgd_momentum": _one_moment,
    "lion": _one_moment,
    "muon": _muon,
}


def step_temporary_bytes(choice: OptimizerChoice, tensors: list[Tensors], trained_width: int, shards: int = 1) -> int:
    """The most that the optimizer's own arithmetic holds at once, beside parameters, gradients and states.

    AdamW foreach forms sqrt(v) of all parameters (torch/optim/adamw.py _multi_tensor_adam); for_loop forms sqrt(v)
    and its quotient one parameter at a time; fused and bitsandbytes kernels work in place. Adafactor (transformers
    optimization.py) holds float32 copies of gradient and parameter, the squared gradient and the update of one
    parameter. Muon (torch/optim/_muon.py) holds the Nesterov update and two bfloat16 iterates of one matrix and two
    Gram matrices.
    """
    if not tensors:
        return 0
    largest = max(ceiling_division(t.elements, shards) for t in tensors)
    width = BYTES[choice.state_dtype]
    if choice.name == "adamw":
        return _adamw_temporaries(choice, tensors, largest, width, shards)
    if choice.name == "adafactor":
        return (
            4 * rounded(largest * FLOAT32, choice.rounding)
            if trained_width < FLOAT32
            else 2 * rounded(largest * FLOAT32, choice.rounding)
        )
    if choice.name == "muon":
        return _muon_temporaries(choice, tensors, trained_width)
    return 0


def _adamw_temporaries(choice: OptimizerChoice, tensors: list[Tensors], largest: int, width: int, shards: int) -> int:
    if choice.implementation == "foreach":
        return sum(t.count * rounded(ceiling_division(t.elements, shards) * width, choice.rounding) for t in tensors)
    return 2 * rounded(largest * width, choice.rounding) if choice.implementation == "for_loop" else 0


def _muon_temporaries(choice: OptimizerChoice, tensors: list[Tensors], trained_width: int) -> int:
    matrices = [t for t in tensors if t.hidden_matrix]
    if not matrices:
        return 0
    largest = max(matrices, key=lambda t: t.elements)
    gram = 2 * 2 * min(largest.shape) ** 2
    return rounded(largest.elements * (trained_width + 4) + gram, choice.rounding)


def traffic_bytes(choice: OptimizerChoice, tensors: list[Tensors], trained_width: int, shards: int = 1) -> int:
    """Bytes that one optimizer step reads and writes: parameter and state both ways, gradient once."""
    elements = sum(ceiling_division(t.elements, shards) * t.count for t in tensors)
    passes = 3 if choice.implementation != "fused" and choice.name == "adamw" else 1
    return passes * (elements * 3 * trained_width + 2 * state_bytes(choice, tensors, shards))
