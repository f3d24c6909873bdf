"""Which attention kernel a device really runs: it decides whether a score matrix is kept for backward."""

from __future__ import annotations

from planner.hardware.profile import DeviceProfile
from planner.step.rules import Kernel


def attention_kernel(device: DeviceProfile, requested: str, *, masked: bool) -> tuple[Kernel, str]:
    """The kernel and the reason: `fused` and `flash` keep no score matrix, `math` and `eager` keep it.

    Args:
        device: its `supports` say what PyTorch's scaled_dot_product_attention and FlashAttention 2 do there.
        requested: "eager", "sdpa" or "flash_attention". What does not run there is planned as sdpa.
        masked: whether an explicit mask is passed, as packing of several documents makes one.
    """
    if requested == "eager":
        return "eager", "eager attention was asked for: it keeps the score matrix"
    flash = device.supports.flash_attention_2
    if requested == "flash_attention" and flash:
        return "flash", f"FlashAttention 2 runs on {device.display_name}"
    kernel, why = _sdpa(device, masked=masked)
    if requested == "flash_attention":
        return (
            kernel,
            f"FlashAttention 2 does not run on {device.display_name} ({device.architecture}), planned as sdpa: {why}",
        )
    return kernel, why


def _sdpa(device: DeviceProfile, *, masked: bool) -> tuple[Kernel, str]:
    """PyTorch's own choice (software_support.jsonl, feature "fused attention")."""
    fused = device.supports.fused_attention_backward
    if fused == "yes":
        return "fused", f"PyTorch has a fused attention backward for {device.display_name}"
    if fused == "causal_without_mask" and not masked:
        return "fused", f"PyTorch's attention on {device.display_name} is fused as long as no mask is passed"
    if fused == "causal_without_mask":
        return "math", f"PyTorch's attention on {device.display_name} keeps the score matrix when a mask is passed"
    if fused == "experimental_switch":
        switch = "TORCH_ROCM_AOTRITON_ENABLE_EXPERIMENTAL=1"
        return (
            "math",
            f"PyTorch's fused attention on {device.display_name} is experimental and off unless {switch} is set",
        )
    return "math", f"PyTorch has no fused attention backward for {device.display_name}: it keeps the score matrix"
