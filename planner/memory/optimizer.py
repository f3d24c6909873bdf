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
PAGED_MINIMUM = 100_000
CODE_BOOK = 256 * FLOAT32
PAGED = {"paged_adamw", "paged_adamw_8bit"}
EIGHT_BIT = {"adamw_8bit", "paged_adamw_8bit"}


@dataclass(frozen=True, slots=True)
class OptimizerChoice:
    """The optimizer with its implementation; `embeddings_in_32_bit` is the transformers Trainer's rule for 8 bit."""

    name: str
    implementation: str
    state_dtype: str
    embeddings_in_32_bit: bool
    step_on_device: bool
    rounding: int
    one_pool: bool = False

    @property
    def paged(self) -> bool:
        """Whether states are managed memory that lives in host RAM; where that is the device's own, nothing moves."""
        return self.name in PAGED and not self.one_pool


def state_bytes(choice: OptimizerChoice, tensors: list[Tensors], shards: int = 1) -> int:
    """Bytes of all states on one device, each tensor rounded, split over `shards` devices.

    8-bit moments share two code books of 256 float32 (bitsandbytes optim/optimizer.py fill_qmap).

    Raises:
        KeyError: unknown optimizer name (the contract's enumeration forbids it).
    """
    sizes = _STATES[choice.name]
    eight_bit = choice.name in EIGHT_BIT and any(_in_8_bit(choice, t) for t in tensors)
    shared = 2 * rounded(CODE_BOOK, choice.rounding) if eight_bit else 0
    return shared + sum(t.count * _split(choice, sizes(choice, t), shards) for t in tensors)


def host_state_bytes(choice: OptimizerChoice, tensors: list[Tensors], shards: int = 1) -> int:
    """Those of the states that live in host memory: moments of at least 100,000 elements of a paged optimizer.

    Smaller moments, which LoRA's matrices mostly have, and all scales stay on the device. Source: bitsandbytes
    optim/optimizer.py, get_state_buffer.
    """
    if not choice.paged:
        return 0
    large = [t for t in tensors if ceiling_division(t.elements, shards) >= PAGED_MINIMUM]
    return sum(t.count * _split(choice, _STATES[choice.name](choice, t)[:2], shards) for t in large)


def _split(choice: OptimizerChoice, sizes: tuple[int, ...], shards: int) -> int:
    return sum(rounded(ceiling_division(size, shards), choice.rounding) for size in sizes)


def _adamw(choice: OptimizerChoice, t: Tensors) -> tuple[int, ...]:
    """Two moments in the state's dtype (torch.optim.AdamW) and, when fused, a float32 step counter on the device."""
    moment = t.elements * BYTES[choice.state_dtype]
    return (moment, moment, FLOAT32) if choice.step_on_device else (moment, moment)


def _adamw_32bit(_choice: OptimizerChoice, t: Tensors) -> tuple[int, ...]:
    """bitsandbytes' AdamW: two float32 moments, whatever the parameter's dtype (optim/optimizer.py init_state)."""
    return (t.elements * FLOAT32,) * 2


def _in_8_bit(choice: OptimizerChoice, t: Tensors) -> bool:
    return t.elements >= EIGHT_BIT_MINIMUM and not (t.embedding and choice.embeddings_in_32_bit)


def _adamw_8bit(choice: OptimizerChoice, t: Tensors) -> tuple[int, ...]:
    """Two moments of one byte with a float32 scale per 256 each; tensors under 4096 elements stay in 32 bit.

    Source: bitsandbytes optim/optimizer.py Optimizer2State.init_state (min_8bit_size, blocksize 256). The
    transformers Trainer registers embeddings for 32 bit (trainer.py create_optimizer, GlobalOptimManager).
    """
    if not _in_8_bit(choice, t):
        return _adamw_32bit(choice, t)
    scales = ceiling_division(t.elements, EIGHT_BIT_BLOCK) * FLOAT32
    return (t.elements, t.elements, scales, scales)


def _adafactor(choice: OptimizerChoice, t: Tensors) -> tuple[int, ...]:
    """Row and column statistics of a matrix, a full one of a vector, and the parameter's own scale, a scalar.

    Source: arXiv 1804.04235 (no first moment by default); transformers optimization.py, Adafactor.step ("RMS").
    """
    width = BYTES[choice.state_dtype]
    if len(t.shape) < 2:
        return (t.elements * width, FLOAT32)
    return (t.elements // t.shape[-1] * width, t.elements // t.shape[-2] * width, FLOAT32)


def _one_moment(choice: OptimizerChoice, t: Tensors) -> tuple[int, ...]:
    """One moment: SGD's momentum buffer, Muon's."""
    return (t.elements * BYTES[choice.state_dtype],)


def _lion(_choice: OptimizerChoice, t: Tensors) -> tuple[int, ...]:
    """One float32 moment (arXiv 2302.06675; bitsandbytes optim/lion.py, which `optim="lion_32bit"` takes)."""
    return (t.elements * FLOAT32,)


def _muon(choice: OptimizerChoice, t: Tensors) -> tuple[int, ...]:
    """One momentum of hidden matrices; embeddings, head, norms and vectors run under AdamW (torch.optim.Muon)."""
    return _one_moment(choice, t) if t.hidden_matrix else _adamw(choice, t)


def _none(_choice: OptimizerChoice, _t: Tensors) -> tuple[int, ...]:
    """Plain SGD keeps nothing."""
    return ()


_STATES: dict[str, Callable[[OptimizerChoice, Tensors], tuple[int, ...]]] = {
    "adamw": _adamw,
    "paged_adamw": _adamw_32bit,
    "adamw_8bit": _adamw_8bit,
    "paged_adamw_8bit": _adamw_8bit,
    "adafactor": _adafactor,
    "sgd": _none,
    "sgd_momentum": _one_moment,
    "lion": _lion,
    "muon": _muon,
}


def step_temporary_bytes(choice: OptimizerChoice, tensors: list[Tensors], trained_width: int, shards: int = 1) -> int:
    """The most that the optimizer's own arithmetic holds at once, beside parameters, gradients and states.

    AdamW foreach forms sqrt(v) of all parameters (torch/optim/adam.py _multi_tensor_adam); for_loop forms sqrt(v)
    and its quotient one parameter at a time (_single_tensor_adam). Adafactor (transformers optimization.py) holds the
    squared gradient and its sum with eps, or the update and the sum before it, and for 16-bit parameters float32
    copies of gradient and parameter. SGD, the fused kernels and bitsandbytes' work in place. Traced: see the tests.
    """
    if choice.name == "adamw":
        return _adamw_temporaries(choice, tensors, shards)
    if choice.name == "adafactor":
        return _loop_bytes(choice, tensors, FLOAT32, 4 if trained_width < FLOAT32 else 2, shards)
    if choice.name == "muon":
        rest = [t for t in tensors if not t.hidden_matrix]
        return max(_muon_temporaries(choice, tensors, trained_width), _adamw_temporaries(choice, rest, shards))
    return 0


def _adamw_temporaries(choice: OptimizerChoice, tensors: list[Tensors], shards: int) -> int:
    width = BYTES[choice.state_dtype]
    if choice.implementation == "foreach":
        return sum(t.count * _split(choice, (t.elements * width,), shards) for t in tensors)
    return _loop_bytes(choice, tensors, width, 2, shards) if choice.implementation == "for_loop" else 0


def _loop_bytes(choice: OptimizerChoice, tensors: list[Tensors], width: int, copies: int, shards: int) -> int:
    """`copies` of the tensor whose turn it is, and what the loop's variables still hold of the one before.

    The order of a layer's tensors isn't known here: the one before is taken to be the largest matrix of a layer. An
    embedding comes first and has none before it; where only tables are trained so, one table follows the other.
    """
    sizes = [(t, _split(choice, (t.elements * width,), shards)) for t in tensors]
    inner = [(t, size) for t, size in sizes if not _is_table(t) and len(t.shape) > 1]
    flat = [(t, size) for t, size in inner if len(t.shape) == 2]
    earlier = flat or inner or sizes
    peaks = [copies * size + _held_before(t, [] if t.embedding and inner else earlier) for t, size in sizes]
    return max(peaks, default=0)


def _held_before(t: Tensors, earlier: list[tuple[Tensors, int]]) -> int:
    return max((held for other, held in earlier if other is not t), default=0)


def _is_table(t: Tensors) -> bool:
    return t.embedding or t.what == "lm_head"


def _muon_temporaries(choice: OptimizerChoice, tensors: list[Tensors], trained_width: int) -> int:
    """The Nesterov update, two bfloat16 iterates of one matrix and two Gram matrices of its shorter side.

    Source: torch/optim/_muon.py, _zeropower_via_newtonschulz.
    """
    matrices = [t for t in tensors if t.hidden_matrix]
    if not matrices:
        return 0
    largest = max(matrices, key=lambda t: t.elements)
    sizes = (largest.elements * trained_width, *(2 * largest.elements,) * 2, *(2 * min(largest.shape) ** 2,) * 2)
    return _split(choice, sizes, 1)


def traffic_bytes(choice: OptimizerChoice, tensors: list[Tensors], trained_width: int, shards: int = 1) -> int:
    """Bytes that one optimizer step reads and writes: parameter and state both ways, gradient once."""
    elements = sum(ceiling_division(t.elements, shards) * t.count for t in tensors)
    passes = 3 if choice.implementation != "fused" and choice.name == "adamw" else 1
    return passes * (elements * 3 * trained_width + 2 * state_bytes(choice, tensors, shards))
