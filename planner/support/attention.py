"""Which attention kernel a device really runs in training."""

from __future__ import annotations

from typing import Final

from planner.hardware import DeviceProfile
from planner.step.rules import Kernel

_FALLBACK: Final = "keeps the full score matrix: PyTorch has no fused attention backward for {name}{when}"


def attention_kernel(device: DeviceProfile, requested: str, *, masked: bool) -> tuple[Kernel, str]:
    """The kernel, and why.

    `eager` is eager everywhere. `sdpa` and `flash_attention` are fused where PyTorch has a fused backward, and fall
    back to the score matrix elsewhere (rows of the catalogue: `sdpa-fused-attention-in-training`). `masked` says that
    an explicit mask is passed, as packing makes, which Intel's kernel cannot take.
    """
    if requested == "eager":
        return "eager", "eager attention was asked for: it keeps the score matrix"
    fused = device.supports.fused_attention_backward
    if fused == "yes" or (fused == "causal_without_mask" and not masked):
        return "fused", "a fused kernel keeps no score matrix"
    if fused == "experimental_switch":
        return "math", _FALLBACK.format(name=device.name, when=" without TORCH_ROCM_AOTRITON_ENABLE_EXPERIMENTAL=1")
    return "math", _FALLBACK.format(name=device.name, when=" with a mask" if fused == "causal_without_mask" else "")
