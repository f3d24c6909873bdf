"""The rates of a device that a step can be planned with: computing by dtype, memory, link, launches."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from planner.hardware.profile import DeviceProfile, SameDevice
from planner.interval import SCALE, UNCALIBRATED, time_factors
from planner.throughput.factors import factors

Basis = Literal["catalogue", "derived", "calibrated"]


class UnknownRate(ValueError):
    """A rate without which no time can be given. `what` names it: a dtype's FLOP/s, or the memory bandwidth."""

    def __init__(self, device: DeviceProfile, what: str) -> None:
        self.what = what
        super().__init__(f"the {what} of {device.name} is not known: give the device's own figures")


@dataclass(frozen=True, slots=True, eq=False)
class Rates:
    """Rates of one logical device, in FLOP/s, bytes/s and seconds.

    `host_link` joins the device to its host's memory. `step_fraction` is the speed of whole steps over that of their
    kernels alone; `interval` holds the likely shortest and longest time over the estimate, `interval_basis` what that
    rests on (docs/accuracy.md).
    """

    matmul: dict[str, float]
    attention: dict[str, float]
    memory: float
    host_link: float
    launch_seconds: float
    step_fraction: float
    interval: tuple[float, float]
    interval_basis: str
    basis: Basis

    def computing(self, kind: str, dtype: str) -> float:
        """FLOP/s of a class of operations in a dtype."""
        return (self.attention if kind == "fused attention" else self.matmul)[dtype]


def rates_of(device: DeviceProfile, dtypes: frozenset[str]) -> Rates:
    """The rates for the dtypes that a step computes in.

    Raises:
        UnknownRate: the catalogue and the person's figures give no rate for a dtype, or no memory bandwidth.
    """
    return _rates_of(SameDevice(device), dtypes)


@lru_cache(maxsize=1024)
def _rates_of(known: SameDevice, dtypes: frozenset[str]) -> Rates:
    device = known.device
    if device.memory_bandwidth_bytes_per_second is None:
        raise UnknownRate(device, "memory bandwidth")
    basis = basis_of(device)
    interval, interval_basis = _interval(device, basis)
    return Rates(
        matmul={dtype: _sustained(device, dtype) for dtype in dtypes},
        attention={dtype: _fused_attention(device, dtype) for dtype in dtypes},
        memory=device.memory_bandwidth_bytes_per_second * factors()["bandwidth_fraction"].of(_memory_kind(device)),
        host_link=_host_link(device),
        launch_seconds=factors()["launch_seconds"].of(device.kind),
        step_fraction=factors()["step_fraction"].of(device.kind),
        interval=interval,
        interval_basis=interval_basis,
        basis=basis,
    )


def _interval(device: DeviceProfile, basis: Basis) -> tuple[tuple[float, float], str]:
    """The shortest and longest likely time over the estimate, and what that rests on.

    From the corpus' residuals; rates that are derived from clocks and widths are at least as uncertain as what is known
    of such derivations (catalog/throughput_factors.jsonl).
    """
    found = time_factors(device)
    low, high = found.low / SCALE, found.high / SCALE
    if basis == "derived":
        return (min(low, factors()["derived_low"].of()), max(high, factors()["derived_high"].of())), UNCALIBRATED
    return (low, high), found.basis


def basis_of(device: DeviceProfile) -> Basis:
    """`derived` for CPUs (cores x clock x SIMD width) and for figures that a person gave, else `catalogue`."""
    derived = device.kind == "cpu" or device.product_line == "unknown"
    return "derived" if derived else "catalogue"


def peak_flops(device: DeviceProfile, dtype: str) -> float | None:
    """Dense peak of a dtype in FLOP/s: of its units, or what the emulated dtype reaches; None when neither is known.

    A dtype that the device lacks runs at the rate of float32, which its software falls back to.
    """
    if dtype in device.peak_flops:
        return float(device.peak_flops[dtype])
    emulated = device.emulated_rates.get(dtype)
    if emulated is not None and emulated.of in device.peak_flops:
        return device.peak_flops[emulated.of] * emulated.rate
    return None if dtype == "float32" else peak_flops(device, "float32")


def reachable_flops(device: DeviceProfile, dtype: str) -> float | None:
    """The peak that MFU is a share of: the rated one, at the clock that the device really runs at.

    Peaks are stated for a base clock (processors) or the lowest boost clock of a range (GeForce laptops), and devices
    run above it: where more was measured than is rated, what was measured is the least that the peak can be.
    """
    rated, reached = peak_flops(device, dtype), device.sustained_flops(dtype)
    if rated is None:
        return None
    clocked = rated * factors()["clock_over_rated"].of(device.product_line)
    return clocked if reached is None else max(clocked, float(reached.flops))


def _sustained(device: DeviceProfile, dtype: str) -> float:
    """Matmul FLOP/s. PyTorch leaves TensorFloat-32 off for float32 products (torch 2.13 docs, CUDA semantics)."""
    for candidate in (dtype, "float32"):
        rate = device.sustained_flops(candidate)
        if rate is not None:
            return float(rate.flops)
    raise UnknownRate(device, f"{dtype} matrix rate")


def _fused_attention(device: DeviceProfile, dtype: str) -> float:
    """A fused kernel's FLOP/s: its fraction of the dense peak, and never more than the matrix rate."""
    matmul, peak = _sustained(device, dtype), peak_flops(device, dtype)
    if peak is None:
        return matmul
    return min(matmul, peak * factors()["fused_attention_fraction"].of(device.architecture))


def _memory_kind(device: DeviceProfile) -> str:
    if device.kind == "cpu":
        return "cpu"
    return "shared" if device.shared_with_host else "default"


def _host_link(device: DeviceProfile) -> float:
    """Bytes/s between device and host memory; where they are one pool, those of the pool."""
    if device.shared_with_host and device.memory_bandwidth_bytes_per_second is not None:
        return device.memory_bandwidth_bytes_per_second * factors()["bandwidth_fraction"].of(_memory_kind(device))
    return factors()["host_link_bytes_per_second"].of(device.architecture)


def link_of(device: DeviceProfile) -> float | None:
    """Bytes/s between devices that software reaches, None where the catalogue has no figure."""
    link = device.interconnect
    if link is None or link.bytes_per_second is None:
        return None
    return link.bytes_per_second * factors()["link_fraction"].of(device.kind)
