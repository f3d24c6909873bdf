"""Profiles of devices that the catalogue does not hold: described by a person, or detected without a known name."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from planner.contract import DeviceFigures
from planner.hardware import facts
from planner.hardware.profile import (
    FLOPS_PER_TERAFLOP,
    Allocator,
    DeviceKind,
    DeviceProfile,
    Interconnect,
    MemoryBasis,
    Numeric,
    Provenance,
    Supports,
)
from planner.units import GB, gib_to_bytes

_BY_KIND: Final[dict[DeviceKind, Allocator]] = {"cpu": "cpu", "apple": "mps", "tpu": "xla"}
_BY_VENDOR: Final[dict[str, Allocator]] = {"amd": "rocm", "intel": "xpu", "apple": "mps"}
_ACCELERATOR_BY_VENDOR: Final[dict[str, Allocator]] = {"intel": "hpu", "habana": "hpu", "aws": "neuron"}


def allocator_of(vendor: str, kind: DeviceKind) -> Allocator:
    """Return the PyTorch allocator that a device of this vendor and kind uses; CUDA's where nothing says otherwise."""
    if kind in _BY_KIND:
        return _BY_KIND[kind]
    by_vendor = _ACCELERATOR_BY_VENDOR if kind == "accelerator" else _BY_VENDOR
    return by_vendor.get(vendor.casefold(), "xla" if kind == "accelerator" else "cuda")


def architecture_of(vendor: str, kind: DeviceKind, architecture: str | None = None) -> str:
    """Return `architecture` where the catalogue has facts on it, else the vendor's `unknown-...` row."""
    if architecture is not None and architecture in facts.architectures():
        return architecture
    allocator = allocator_of(vendor, kind)
    return "x86-avx2" if allocator == "cpu" else f"unknown-{allocator}"


def described_device(figures: DeviceFigures) -> DeviceProfile:
    """Return the profile of a device from the figures that a person gave.

    The whole of the memory counts as usable. A dtype whose rate was left out is not planned with: a device with a
    float16 rate and no bfloat16 rate is taken to have no bfloat16.
    """
    vendor, kind = figures.vendor.casefold(), figures.kind
    bare = bare_device(
        device_id="custom", name=figures.name, vendor=vendor, kind=kind, memory_bytes=gib_to_bytes(figures.memory_gib)
    )
    given = Provenance("given", "given in the request")
    link = figures.interconnect_gb_s
    return replace(
        bare,
        memory_bandwidth_bytes_per_second=round(figures.memory_bandwidth_gb_s * GB),
        peak_flops=_peaks(figures),
        interconnect=None if link is None else Interconnect("given", round(link * GB)),
        tdp_watts=None if figures.power_watts is None else round(figures.power_watts),
        supports=replace(bare.supports, bfloat16=_bfloat16(figures, bare.supports)),
        provenance={**bare.provenance, "peak_flops": given, "memory_bandwidth_bytes_per_second": given},
        missing=(),
    )


def bare_device(
    *,
    device_id: str,
    name: str,
    vendor: str,
    kind: DeviceKind,
    memory_bytes: int | None,
    architecture: str | None = None,
    memory_basis: MemoryBasis = "given",
) -> DeviceProfile:
    """Return a device of which only its memory, and at best its architecture, are known; `missing` names the rest."""
    known = architecture_of(vendor, kind, architecture)
    context_bytes, context_provenance = facts.context(known)
    rounding_bytes, rounding_provenance = facts.rounding(known)
    return DeviceProfile(
        id=device_id,
        name=name,
        vendor=vendor,
        kind=kind,
        product_line="unknown",
        architecture=known,
        memory_total_bytes=None if kind == "cpu" else memory_bytes,
        memory_basis=memory_basis,
        system_reserved_bytes=0,
        memory_bandwidth_bytes_per_second=None,
        peak_flops={},
        measured_flops={},
        matmul_efficiency=facts.efficiencies("cpu" if kind == "cpu" else "unknown"),
        emulated_rates=facts.emulated_rates(known),
        supports=facts.supports(known),
        allocator_family=allocator_of(vendor, kind),
        allocation_rounding_bytes=rounding_bytes,
        context_bytes=context_bytes,
        confidence="low",
        provenance={
            "memory_total_bytes": Provenance(memory_basis, f"{memory_basis}, not from the catalogue"),
            "context_bytes": context_provenance,
            "allocation_rounding_bytes": rounding_provenance,
        },
        missing=("memory_bandwidth_gb_s", "tflops_bfloat16", "tflops_float16", "tflops_float32"),
    )


def _peaks(figures: DeviceFigures) -> dict[str, int]:
    teraflops = {
        "float32": figures.tflops_float32,
        "float16": figures.tflops_float16,
        "bfloat16": figures.tflops_bfloat16,
    }
    return {dtype: round(value * FLOPS_PER_TERAFLOP) for dtype, value in teraflops.items() if value is not None}


def _bfloat16(figures: DeviceFigures, assumed: Supports) -> Numeric:
    if figures.tflops_bfloat16 is not None:
        return "native"
    return "absent" if figures.tflops_float16 is not None else assumed.bfloat16
