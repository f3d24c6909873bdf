"""The components of a plan, and whether each runs on the plan's device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from planner.contract import Reason, SoftwareSupport
from planner.hardware import DeviceProfile
from planner.hardware.profile import SameDevice
from planner.support.routes import kind_of
from planner.support.rows import SupportRow, row, row_for

_BITSANDBYTES_OPTIMIZERS: Final = {"adamw_8bit", "paged_adamw", "paged_adamw_8bit", "lion"}
_FEATURE_OF_SCHEME: Final = {"nf4": "bitsandbytes 4-bit", "int8": "bitsandbytes 8-bit"}
_LIGER: Final = "liger-kernel-fused-loss-and-norms-nvidia-amd-rocm-intel-xpu-ascend-npu"
_LONGCAT: Final = "megatron-lm-torchtitan-llama-factory-axolotl-unsloth-ktransformers-longcat-flash-training"
_NO_TRAINER: Final = {
    "longcat_flash": (
        _LONGCAT,
        "no trainer has code for LongCat-Flash: fine-tuning it is a custom project. The memory given here is that of "
        "the model's own 561 B parameters; its class in transformers would allocate 741 B, of which 180 B belong to "
        "experts that have no weights. It can be served with SGLang or vLLM on 8 H20-141G or more. To tune a model of "
        "its kind, take DeepSeek-V3 with KTransformers on one machine with about 1.2 TB of memory, "
        "or a smaller mixture such as Qwen3-30B-A3B",
    ),
}
_FIELDS: Final = {
    "model": "model",
    "PyTorch": "machine.device",
    "compute dtype": "run.compute_dtype",
    "framework": "run.framework",
    "quantised base": "run.quantization.scheme",
    "8-bit optimizer": "run.optimizer",
    "flash attention": "run.attention",
    "fused loss": "run.loss",
    "several devices": "machine.device_count",
}


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
    compute_dtype: str = "float32"
    data_parallel: int = 1


def support_for(device: DeviceProfile, needs: Needs) -> tuple[SoftwareSupport, ...]:
    """Every component that the plan needs, whether it runs there, since when and who says so.

    Where no source says anything, the component counts as supported, with an empty source and a note that says so:
    what nobody wrote about is a warning, never a refusal.
    """
    return _support_for(SameDevice(device), needs)


@lru_cache(maxsize=4096)
def _support_for(same: SameDevice, needs: Needs) -> tuple[SoftwareSupport, ...]:
    return tuple(_components(same.device, needs))


def support_warnings(software: Iterable[SoftwareSupport]) -> tuple[str, ...]:
    """What a person should hear of software that runs with limits, has ended, or that no source speaks of."""
    return tuple(f"{item.component}: {item.note}" for item in software if item.supported and item.note)


def unsupported_reason(software: Iterable[SoftwareSupport]) -> Reason | None:
    """The first component that does not run there, as a reason; None when all do or nothing is known."""
    for component in software:
        if not component.supported:
            field = _FIELDS[component.component]
            return Reason(code=f"unsupported:{component.component}", field=field, message=component.note)
    return None


def runs_fused_loss(device: DeviceProfile) -> bool:
    """Whether Liger's Triton kernels run on the device."""
    return device.allocator_family in {"cuda", "rocm", "xpu"}


def _components(device: DeviceProfile, needs: Needs) -> Iterator[SoftwareSupport]:
    if needs.model_type in _NO_TRAINER:
        row_id, note = _NO_TRAINER[needs.model_type]
        yield _said("model", row(row_id), supported=False, note=note)
    yield _answered("PyTorch", "PyTorch", device, "another device")
    if _lacks(device, needs.compute_dtype):
        yield _missing_dtype(device, needs.compute_dtype)
    yield _framework(device, needs.framework)
    if needs.method == "qlora":
        scheme = needs.scheme or "nf4"
        instead = "nf4, or lora with 16-bit weights" if scheme == "int8" else "lora with 16-bit weights"
        yield _answered("quantised base", _FEATURE_OF_SCHEME[scheme], device, instead)
    if needs.optimizer in _BITSANDBYTES_OPTIMIZERS:
        yield _answered("8-bit optimizer", "bitsandbytes optimizers", device, "adamw or adafactor")
    if needs.attention == "flash_attention":
        yield _flash_attention(device)
    if needs.loss == "fused_linear":
        yield _fused_loss(device)
    if needs.data_parallel > 1:
        yield _answered("several devices", "several devices", device, "one device")


def _answered(component: str, feature: str, device: DeviceProfile, instead: str) -> SoftwareSupport:
    """What the catalogue says of a feature on the device's architecture."""
    found = row_for(feature, device.architecture)
    if found is None:
        note = f"no source says whether {feature} runs on {device.display_name}; not refused for that"
        return SoftwareSupport(component=component, supported=True, since="", source="", note=note)
    answer = found.features[feature]
    if answer == "no":
        note = f"{feature} does not run on {device.display_name}; use {instead} instead{_near(device)}"
        return _said(component, found, supported=False, note=note)
    return _said(component, found, supported=True, note="" if answer == "yes" else found.detail)


def _near(device: DeviceProfile) -> str:
    """What trains on the device at all, for the end of a sentence."""
    kind = kind_of(device.architecture)
    if kind is None:
        return ""
    if not kind.routes:
        return ". Nothing that we know trains there"
    offers = "; ".join(f"{route.software} ({', '.join(route.methods)})" for route in kind.routes)
    return f". What trains there: {offers}"


def _framework(device: DeviceProfile, framework: str) -> SoftwareSupport:
    found = row_for(framework, device.architecture)
    if found is not None and found.features[framework] == "retired":
        return _said("framework", found, supported=True, note=f"{framework} has ended: {found.detail}")
    return _answered("framework", framework, device, "transformers")


def _flash_attention(device: DeviceProfile) -> SoftwareSupport:
    """The flash-attn package, by the device catalogue; its absence on a device that nobody knows is no refusal."""
    known = not device.architecture.startswith("unknown-")
    if device.supports.flash_attention_2 or not known:
        return _answered("flash attention", "flash-attention 2", device, "sdpa")
    source = "; ".join(device.supports.sources)
    note = f"the flash-attn package does not run on {device.display_name}; use sdpa instead"
    return SoftwareSupport(component="flash attention", supported=False, since="", source=source, note=note)


def _fused_loss(device: DeviceProfile) -> SoftwareSupport:
    supported = runs_fused_loss(device)
    note = (
        ""
        if supported
        else f"the fused linear cross-entropy is a Triton kernel, which {device.display_name} does not run"
    )
    return _said("fused loss", row(_LIGER), supported=supported, note=note)


def _lacks(device: DeviceProfile, dtype: str) -> bool:
    """Whether the device or all its training software lacks a dtype; emulated and unknown are no reason to refuse."""
    numerics = {
        "bfloat16": device.supports.bfloat16,
        "float16": device.supports.float16,
        "float8": device.supports.float8,
    }
    return numerics.get(dtype) in {"absent", "no_software"}


def _missing_dtype(device: DeviceProfile, dtype: str) -> SoftwareSupport:
    instead = " or ".join([*(name for name in ("bfloat16", "float16") if not _lacks(device, name)), "float32"])
    return SoftwareSupport(
        component="compute dtype",
        supported=False,
        since="",
        source="; ".join(device.supports.sources),
        note=f"{device.display_name} has no {dtype} that training software uses; use {instead} instead",
    )


def _said(component: str, found: SupportRow, *, supported: bool, note: str = "") -> SoftwareSupport:
    return SoftwareSupport(
        component=component,
        supported=supported,
        since=f"{found.software} {found.version}",
        source=f"{'; '.join(found.source)} ({found.as_of})",
        note=note,
    )
