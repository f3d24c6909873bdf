"""What a plan needs of software, what the catalogue says of it, and the reason when something does not run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from planner.contract import Reason, SoftwareSupport
from planner.hardware.profile import DeviceProfile
from planner.support.rows import SupportRow, row_for

BITSANDBYTES_OPTIMIZERS = frozenset({"adamw_8bit", "paged_adamw", "paged_adamw_8bit"})
FEATURE_OF_SCHEME = {"nf4": "bitsandbytes 4-bit", "int8": "bitsandbytes 8-bit"}
NO_TRAINER = {
    "longcat_flash": (
        "No training software supports LongCat-Flash: Megatron-LM, torchtitan, LLaMA-Factory, Axolotl, Unsloth and "
        "KTransformers hold no code for it, and the class in transformers allocates 741 B parameters for its 560 B and "
        "loops over the experts. It can be served with SGLang or vLLM. To tune a model of its kind, take DeepSeek-V3 "
        "with KTransformers on one machine with about 1.2 TB of memory, or a smaller mixture such as Qwen3-30B-A3B."
    ),
}


@dataclass(frozen=True, slots=True)
class Need:
    """A piece of software that a plan asks for: the feature of the catalogue, the field that asked, what else to take."""

    feature: str
    field: str
    instead: str


def support_for(
    device: DeviceProfile, method: str, scheme: str | None, optimizer: str, framework: str, model_type: str
) -> list[SoftwareSupport]:
    """What the catalogue says of each piece of software that the plan needs on this device.

    Where no source says anything the component counts as supported, with an empty source and a note that says so: what
    nobody tried is a warning, never a refusal.
    """
    found = [_support(need, device) for need in _needs(method, scheme, optimizer, framework)]
    if model_type in NO_TRAINER:
        row = row_for(f"{model_type} training", device.architecture)
        source = _source(row) if row is not None else ""
        note = NO_TRAINER[model_type]
        found.append(
            SoftwareSupport(component=f"training of {model_type}", supported=False, since="", source=source, note=note)
        )
    return found


def support_warnings(software: Iterable[SoftwareSupport]) -> tuple[str, ...]:
    """What a person should hear of software that runs with limits, is retired, or that no source speaks of."""
    return tuple(f"{item.component}: {item.note}" for item in software if item.supported and item.note)


def unsupported_reason(
    device: DeviceProfile,
    method: str,
    scheme: str | None,
    optimizer: str,
    framework: str,
    model_type: str,
    *,
    compute_dtype: str | None = None,
    attention: str | None = None,
    data_parallel: int = 1,
) -> Reason | None:
    """The first thing of the plan that no software does on this device, or None.

    The model comes first, then the dtype, quantisation, optimizer, framework, attention and several devices; the last
    three keywords are checked when they are given.
    """
    if model_type in NO_TRAINER:
        return Reason(code="no_trainer", field="model", message=NO_TRAINER[model_type])
    if compute_dtype is not None and _lacks(device, compute_dtype):
        return _dtype_reason(device, compute_dtype)
    needs = _needs(method, scheme, optimizer, framework, data_parallel=data_parallel)
    reason = next(filter(None, (_refusal(need, device) for need in needs)), None)
    if reason is None and attention == "flash_attention" and _flash_is_absent(device):
        message = f"FlashAttention 2 does not run on {device.name} ({device.architecture}); use sdpa instead."
        return Reason(code="attention_unsupported", field="run.attention", message=message)
    return reason


def _flash_is_absent(device: DeviceProfile) -> bool:
    return not device.supports.flash_attention_2 and not device.architecture.startswith("unknown-")


def _needs(
    method: str, scheme: str | None, optimizer: str, framework: str, *, data_parallel: int = 1
) -> Iterator[Need]:
    yield Need("PyTorch", "machine.device", "another device")
    if method == "qlora" and scheme is not None:
        yield Need(FEATURE_OF_SCHEME[scheme], "run.quantization.scheme", _instead_of(scheme))
    if optimizer in BITSANDBYTES_OPTIMIZERS:
        yield Need("bitsandbytes optimizers", "run.optimizer", "adamw or adafactor")
    yield Need(framework, "run.framework", "transformers")
    if data_parallel > 1:
        yield Need("several devices", "machine.device_count", "one device")


def _instead_of(scheme: str) -> str:
    return "nf4, or lora with 16-bit weights" if scheme == "int8" else "lora with 16-bit weights"


def _support(need: Need, device: DeviceProfile) -> SoftwareSupport:
    row = row_for(need.feature, device.architecture)
    if row is None:
        note = f"no source says whether it runs on {device.name}; not refused for that"
        return SoftwareSupport(component=need.feature, supported=True, since="", source="", note=note)
    answer = row.features[need.feature]
    note = "" if answer == "yes" else row.detail
    return SoftwareSupport(
        component=need.feature, supported=answer != "no", since=row.version, source=_source(row), note=note
    )


def _refusal(need: Need, device: DeviceProfile) -> Reason | None:
    row = row_for(need.feature, device.architecture)
    if row is None or row.features[need.feature] != "no":
        return None
    message = f"{need.feature} does not run on {device.name}: {row.detail}. Use {need.instead} instead."
    return Reason(code="software_unsupported", field=need.field, message=message)


def _source(row: SupportRow) -> str:
    return f"{'; '.join(row.sources)} ({row.as_of})"


def _lacks(device: DeviceProfile, dtype: str) -> bool:
    """Whether the device or all its training software lacks a dtype; emulated and unknown are no reason to refuse."""
    if dtype == "float32":
        return False
    return getattr(device.supports, dtype) in {"absent", "no_software"}


def _dtype_reason(device: DeviceProfile, dtype: str) -> Reason:
    has = [name for name in ("bfloat16", "float16") if not _lacks(device, name)]
    instead = " or ".join([*has, "float32"])
    message = f"{device.name} has no {dtype} that training software uses; use {instead} instead."
    return Reason(code="dtype_unsupported", field="run.compute_dtype", message=message)
