"""The peak of a processor that the catalogue does not hold: cores x clock x operations per cycle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from planner.hardware import facts
from planner.hardware.described import bare_device
from planner.hardware.profile import DeviceProfile, HostFigures, Provenance
from planner.units import GB

AMD_ZEN_4_FAMILY: Final = 25
PRIOR_BANDWIDTH: Final = 51_200_000_000
"""Two channels of DDR4-3200, as the catalogue's generic four-core laptop: what a machine has at the least."""


@dataclass(frozen=True, slots=True)
class CpuFacts:
    """What was detected of a processor.

    `cores` are physical cores that this process may use, `hertz` the base clock (None if unknown), `flags` the
    features as Linux names them ("avx2", "avx512f", "amx_bf16", "asimd"), `family` the CPUID family.
    """

    name: str
    vendor: str
    cores: int
    hertz: int | None
    flags: frozenset[str]
    family: int | None = None


@dataclass(frozen=True, slots=True)
class Simd:
    """Which architecture of the catalogue a processor belongs to, and its operations per core and cycle per dtype."""

    architecture: str
    flops_per_cycle: Mapping[str, int]
    why: str


def simd_of(cpu: CpuFacts) -> Simd:
    """Return FLOP per core and cycle by dtype: vector width / 4 bytes x 2 (FMA) x FMA pipes.

    The rules are those of the catalogue's `derived` rows: AVX2 has two 256-bit FMA pipes (32 float32 FLOP a cycle),
    AVX-512 two 512-bit ones (64), Zen 4 runs 512-bit operations in two passes (32). AVX512_BF16 doubles the float32
    rate (seen on Zen 4: 2.1 to 2.6 times it), AMX does 1,024 bfloat16 FLOP a cycle; without either, bfloat16 is
    emulated, at a rate of the catalogue's architectures. Arm: two 128-bit pipes (16, NEON) or 32 with SVE, BFMMLA four
    times the float32 rate. Vendors' optimisation guides, from memory; parts with one AVX-512 pipe reach half.
    """
    flags = cpu.flags
    if flags & {"asimd", "sve", "neon"}:
        return _arm(flags)
    if "avx512f" in flags:
        return _avx512(cpu)
    if {"avx2", "fma"} <= flags:
        return Simd("x86-avx2", {"float32": 32}, "AVX2, two FMA pipes")
    return Simd("x86-sse", {"float32": 16 if "avx" in flags else 8}, "no FMA")


def cpu_device(cpu: CpuFacts, bandwidth_bytes_per_second: int | None = None) -> DeviceProfile:
    """Return the profile of a processor from its cores, clock and vector width; basis `derived`.

    Without a clock the peak stays unknown and `missing` says so; without a measured bandwidth two channels of
    DDR4-3200 are assumed.
    """
    simd = simd_of(cpu)
    bare = bare_device(
        device_id="this-cpu",
        name=cpu.name,
        vendor=cpu.vendor,
        kind="cpu",
        memory_bytes=None,
        architecture=simd.architecture,
        memory_basis="host_decides",
    )
    line = "cpu_amx" if simd.architecture == "x86-amx" else "cpu_arm" if simd.architecture[:3] == "arm" else "cpu"
    why = f"{cpu.cores} cores x {(cpu.hertz or 0) / 1e9:.2f} GHz x {dict(simd.flops_per_cycle)} FLOP/cycle ({simd.why})"
    measured = bandwidth_bytes_per_second is not None
    return replace(
        bare,
        product_line=line,
        peak_flops={dtype: cpu.cores * cpu.hertz * each for dtype, each in simd.flops_per_cycle.items()}
        if cpu.hertz
        else {},
        memory_bandwidth_bytes_per_second=bandwidth_bytes_per_second or PRIOR_BANDWIDTH,
        matmul_efficiency=facts.efficiencies(line),
        host=HostFigures(cpu.cores, cpu.hertz or 0, None, None),
        provenance={
            **bare.provenance,
            "peak_flops": Provenance("derived", why),
            "memory_bandwidth_bytes_per_second": Provenance("measured", "measured here")
            if measured
            else Provenance("prior", f"two channels of DDR4-3200 assumed: {PRIOR_BANDWIDTH / GB:.1f} GB/s"),
        },
        missing=() if cpu.hertz else ("base clock",),
    )


def _avx512(cpu: CpuFacts) -> Simd:
    zen_4 = cpu.vendor == "amd" and cpu.family == AMD_ZEN_4_FAMILY
    float32 = 32 if zen_4 else 64
    why = "AVX-512 in two passes (Zen 4)" if zen_4 else "AVX-512, two FMA pipes"
    if "amx_bf16" in cpu.flags:
        return Simd("x86-amx", {"float32": float32, "bfloat16": 1024}, f"{why}, AMX tiles")
    if "avx512_bf16" in cpu.flags:
        return Simd("x86-avx512-bf16", {"float32": float32, "bfloat16": 2 * float32}, f"{why}, AVX512_BF16")
    return Simd("x86-avx512", {"float32": float32}, why)


def _arm(flags: frozenset[str]) -> Simd:
    float32 = 32 if "sve" in flags else 16
    if "bf16" in flags:
        return Simd("arm-bf16", {"float32": float32, "bfloat16": 4 * float32}, "BFMMLA")
    return Simd("arm-neon", {"float32": float32}, "SVE" if "sve" in flags else "NEON, two 128-bit pipes")
