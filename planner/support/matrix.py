"""The components of a plan, and whether each runs on the plan's device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from planner.contract import Reason, SoftwareSupport
from planner.hardware import DeviceProfile
from planner.support.rows import row

_BITSANDBYTES: Final = "bitsandbytes-8-bit-4-bit-8-bit-optimizer-"
_EIGHT_BIT: Final = {"adamw_8bit", "paged_adamw", "paged_adamw_8bit", "lion"}
_NO_TORCH_TRAINER: Final = {
    "xla": "maxtext-tunix-sft-and-rl-post-training-google-tpu-and-gpu",
    "neuron": "optimum-neuron-lora-and-full-sft-aws-trainium-1-2",
    "hpu": "optimum-habana-lora-and-full-sft-intel-gaudi-2-3",
}
_LONGCAT: Final = "megatron-lm-torchtitan-llama-factory-axolotl-unsloth-ktransformers-longcat-flash-training"
_LIGER: Final = "liger-kernel-fused-loss-and-norms-nvidia-amd-rocm-intel-xpu-ascend-npu"
_FLASH: Final = "flash-attention-2-attention-kernels-nvidia-ampere-ada-hopper-blackwell"
_RETIRED: Final = {"torchtune": "torchtune-lora-qlora-full-nvidia-amd"}


@dataclass(frozen=True, slots=True)
class Needs:
    """What a plan asks of its software, in the words of the contract's run."""

    method: str
    scheme: str | None
    optimizer: str
    framework: str
    model_type: str
    attention: str
    loss: str


def support_for(device: DeviceProfile, needs: Needs) -> list[SoftwareSupport]:
    """Every component that the plan needs, whether it runs there, since when and who says so."""
    return list(_components(device, needs))


def unsupported_reason(device: DeviceProfile, needs: Needs) -> Reason | None:
    """The first component that does not run there, as a reason; None when all do or nothing is known."""
    for component in _components(device, needs):
        if not component.supported:
            field = _FIELDS.get(component.component, "run.method")
            return Reason(code=f"unsupported:{component.component}", field=field, message=component.note)
    return None


_FIELDS: Final = {
    "model": "model",
    "framework": "run.framework",
    "quantised base": "run.quantization.scheme",
    "8-bit optimizer": "run.optimizer",
    "flash attention": "run.attention",
    "fused loss": "run.loss",
}


def _components(device: DeviceProfile, needs: Needs) -> Iterator[SoftwareSupport]:
    yield _framework(device, needs.framework)
    if needs.model_type == "longcat_flash":
        yield _from_row("model", _LONGCAT, supported=False, note=_LONGCAT_NOTE)
    if needs.method == "qlora":
        yield _quantised_base(device, needs.scheme or "nf4")
    if needs.optimizer in _EIGHT_BIT:
        yield _eight_bit_optimizer(device)
    if needs.attention == "flash_attention":
        yield _flash_attention(device)
    if needs.loss == "fused_linear":
        yield _fused_loss(device)


def runs_fused_loss(device: DeviceProfile) -> bool:
    """Whether Liger's Triton kernels run on the device."""
    return device.allocator_family in {"cuda", "rocm", "xpu"}


def _fused_loss(device: DeviceProfile) -> SoftwareSupport:
    supported = runs_fused_loss(device)
    note = "" if supported else f"the fused linear cross-entropy is a Triton kernel, which {device.name} does not run"
    return _from_row("fused loss", _LIGER, supported=supported, note=note)


def _flash_attention(device: DeviceProfile) -> SoftwareSupport:
    """The flash-attn package: compute capability 8.0 and newer, CDNA 2 and 3, RDNA 3."""
    supported = device.supports.flash_attention_2
    note = "" if supported else f"the flash-attn package does not run on {device.name}; sdpa does"
    return _from_row("flash attention", _FLASH, supported=supported, note=note)


_LONGCAT_NOTE: Final = (
    "no trainer has code for LongCat-Flash: fine-tuning it is a custom project; serving it needs 8 H20-141G or more"
)


def _framework(device: DeviceProfile, framework: str) -> SoftwareSupport:
    """PyTorch trainers run on CUDA, ROCm, XPU, MPS and CPUs; the other platforms have trainers of their own."""
    platform = device.allocator_family
    if platform in _NO_TORCH_TRAINER:
        instead = row(_NO_TORCH_TRAINER[platform])
        note = f"{framework} does not train on {device.name}; {instead.software} does ({instead.detail})"
        return _from_row("framework", instead.id, supported=False, note=note)
    if framework in _RETIRED:
        retired = row(_RETIRED[framework])
        return _from_row("framework", retired.id, supported=True, note=f"{framework} has ended: {retired.detail}")
    return SoftwareSupport(
        component="framework",
        supported=True,
        since="PyTorch 2.4",
        source="requirements of transformers 5 and accelerate (huggingface/accelerate: cpu, cuda, rocm, mps, xpu)",
        note=f"{framework} on PyTorch's {platform} backend",
    )


def _from_row(component: str, row_id: str, *, supported: bool, note: str = "") -> SoftwareSupport:
    found = row(row_id)
    return SoftwareSupport(
        component=component,
        supported=supported,
        since=f"{found.software} {found.version}",
        source="; ".join(found.source),
        note=note or found.detail,
    )


def _bitsandbytes_row(device: DeviceProfile) -> str | None:
    """Which row of bitsandbytes' support table holds for a device; None where it has no build."""
    platform, architecture = device.allocator_family, device.architecture
    if platform == "cuda":
        old = architecture in {"sm_50", "sm_52", "sm_60", "sm_61", "sm_70"}
        return "nvidia-sm_60-sm_70-p100-gtx-10xx-v100" if old else "nvidia-sm_75"
    if platform == "rocm":
        return _rocm_row(architecture)
    return {
        "xpu": "intel-xpu-max-arc-a-and-b",
        "mps": "apple-mps-m1-macos-14",
        "cpu": "x86-64-cpu",
        "hpu": "intel-gaudi-2-3",
    }.get(platform)


def _rocm_row(architecture: str) -> str | None:
    if architecture.startswith(("gfx908", "gfx90a", "gfx94", "gfx95", "gfx1250")):
        return "amd-cdna-gfx908-90a-942-950-1250"
    if architecture.startswith(("gfx103", "gfx110", "gfx115", "gfx120")):
        return "amd-rdna2-3-3-5-4-gfx103x-110x-115x-120x"
    return None


def _quantised_base(device: DeviceProfile, scheme: str) -> SoftwareSupport:
    """int8 needs sm_75; everything else that has a row has 4 bits."""
    found = _bitsandbytes_row(device)
    if found is None:
        return _no_bitsandbytes("quantised base", device)
    old = found.startswith("nvidia-sm_60")
    supported = not (old and scheme == "int8")
    note = (
        "" if supported else f"bitsandbytes' int8 needs compute capability 7.5; {device.name} is {device.architecture}"
    )
    return _from_row("quantised base", _BITSANDBYTES + found, supported=supported, note=note)


def _eight_bit_optimizer(device: DeviceProfile) -> SoftwareSupport:
    """bitsandbytes' optimizers run wherever it has a build but on Apple's GPU and Gaudi."""
    found = _bitsandbytes_row(device)
    if found is None:
        return _no_bitsandbytes("8-bit optimizer", device)
    supported = device.allocator_family not in {"mps", "hpu"}
    note = "" if supported else f"bitsandbytes has no optimizers for {device.name} yet"
    return _from_row("8-bit optimizer", _BITSANDBYTES + found, supported=supported, note=note)


def _no_bitsandbytes(component: str, device: DeviceProfile) -> SoftwareSupport:
    return SoftwareSupport(
        component=component,
        supported=False,
        since="",
        source="; ".join(row(_BITSANDBYTES + "nvidia-sm_75").source),
        note=f"bitsandbytes has no build for {device.name}",
    )
