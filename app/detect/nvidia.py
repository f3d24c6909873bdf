"""NVIDIA devices by NVML (nvidia-ml-py), which reads the driver without CUDA and without torch."""

from __future__ import annotations

import importlib
from typing import Any

from app.detect.found import FoundDevice, Probe


def probe_nvidia(nvml: Any = None) -> Probe:
    """Every NVIDIA device; `nvml` stands in for the pynvml module."""
    try:
        nvml = nvml or importlib.import_module("pynvml")
        nvml.nvmlInit()
    except Exception as error:  # a driver that is absent, broken or of another version each raise their own
        return Probe(reason=f"NVML: {error}")
    try:
        driver = _text(nvml.nvmlSystemGetDriverVersion())
        found = [_device(nvml, index, driver) for index in range(nvml.nvmlDeviceGetCount())]
        return Probe(tuple(found), None if found else "NVML: no device")
    except Exception as error:
        return Probe(reason=f"NVML: {error}")
    finally:
        nvml.nvmlShutdown()


def _device(nvml: Any, index: int, driver: str) -> FoundDevice:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    total_bytes, reserved_bytes, used_bytes = _memory(nvml, handle)
    capability = _call(nvml.nvmlDeviceGetCudaComputeCapability, handle)
    uuid = _call(nvml.nvmlDeviceGetUUID, handle)
    return FoundDevice(
        vendor="nvidia",
        # Jetson and GB10 share the host's memory, and their NVML has no memory of the device's own to report.
        kind="gpu" if total_bytes is not None else "apu",
        name=_text(nvml.nvmlDeviceGetName(handle)),
        driver=driver,
        uuid=None if uuid is None else _text(uuid),
        index=index,
        architecture=None if capability is None else f"sm_{capability[0]}{capability[1]}",
        memory_total_bytes=total_bytes,
        reserved_bytes=reserved_bytes,
        used_bytes=used_bytes,
    )


def _memory(nvml: Any, handle: Any) -> tuple[int | None, int | None, int | None]:
    """Total, the driver's own reserve, and what processes use. The older call counts the reserve as used."""
    newer = _call(nvml.nvmlDeviceGetMemoryInfo, handle, getattr(nvml, "nvmlMemory_v2", None))
    if newer is not None and hasattr(newer, "reserved"):
        return int(newer.total), int(newer.reserved), int(newer.used)
    older = _call(nvml.nvmlDeviceGetMemoryInfo, handle)
    return (None, None, None) if older is None else (int(older.total), None, int(older.used))


def _call(function: Any, *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except Exception:  # NVMLError_NotSupported and its siblings: this device has no such figure
        return None


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
