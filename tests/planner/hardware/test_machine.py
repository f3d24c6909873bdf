from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.contract import MachineRequest
from planner.hardware import (
    CpuFacts,
    Machine,
    MachineError,
    UnknownDevice,
    all_devices,
    cpu_device,
    resolve_machine,
    system_share_bytes,
    usable_bytes,
    working_set_bytes,
)
from planner.units import GIB, MIB


def machine(detected: Machine | None = None, **fields: Any) -> Machine:
    return resolve_machine(MachineRequest(**fields), detected)


def this_gpu(**changes: Any) -> Machine:
    known = machine(device="nvidia-rtx-4090-24gb", device_count=2, host_memory_gib=64)
    return replace(known, is_this_machine=True, in_use_bytes=GIB, disk_free_bytes=100 * GIB, **changes)


@pytest.mark.parametrize(
    ("device_id", "total_mib", "usable_mib"),
    [
        ("nvidia-t4-16gb", 15_360, 14_912),
        ("nvidia-h100-sxm-80gb", 81_559, 81_100),
        ("nvidia-b200-180gb", 183_359, 182_272),
        ("amd-mi250-128gb", 65_536, 65_536),
    ],
)
def test_usable_bytes_of_cards(device_id: str, total_mib: int, usable_mib: int) -> None:
    resolved = machine(device=device_id)
    assert resolved.memory_total_bytes == total_mib * MIB
    assert usable_bytes(resolved) == resolved.usable_bytes == usable_mib * MIB
    assert resolved.host_memory_bytes is None
    assert resolved.host_usable_bytes is None


def test_our_own_context_is_never_subtracted() -> None:
    resolved = machine(device="nvidia-a100-sxm-80gb")
    assert resolved.device.context_bytes == 501 * MIB
    assert usable_bytes(resolved) == resolved.memory_total_bytes - resolved.system_reserved_bytes


@pytest.mark.parametrize(
    ("gib", "limit_gib"), [(16, 16 * 2 / 3), (32, 32 * 2 / 3), (36, 27), (48, 36), (64, 48), (128, 96)]
)
def test_apples_limit_to_macos_15(gib: int, limit_gib: float) -> None:
    assert working_set_bytes(gib * GIB) == pytest.approx(limit_gib * GIB, abs=1)
    resolved = machine(device="apple-m4-max", device_memory_gib=gib)
    assert resolved.usable_bytes == working_set_bytes(gib * GIB)
    assert resolved.memory_total_bytes == resolved.host_memory_bytes == gib * GIB
    assert resolved.shared_with_host


@pytest.mark.parametrize(("gib", "limit_gib"), [(16, 11.8), (32, 25.0), (64, 51.8), (128, 107.5), (512, 464.0)])
def test_apples_limit_on_macos_26(gib: int, limit_gib: float) -> None:
    assert working_set_bytes(gib * GIB, 26) == pytest.approx(limit_gib * GIB, rel=1e-6)
    assert working_set_bytes(gib * GIB, 26) > working_set_bytes(gib * GIB, 15)


def test_apple_sizes_that_were_not_seen_keep_between_older_limit_and_everything() -> None:
    for gib in (8, 18, 192, 256):
        assert working_set_bytes(gib * GIB, 15) <= working_set_bytes(gib * GIB, 26) < gib * GIB


def test_what_a_mac_assumes_is_said() -> None:
    assert set(machine(device="apple-m3-max").assumed) == {"machine.device_memory_gib", "machine.macos"}
    assert set(machine(device="apple-m3-max", device_memory_gib=64).assumed) == {"machine.macos"}


def test_an_apu_keeps_its_share_when_it_has_other_memory() -> None:
    whole = machine(device="amd-ryzen-ai-max-395-128gb")
    half = machine(device="amd-ryzen-ai-max-395-128gb", host_memory_gib=64)
    assert whole.usable_bytes == 110 * GIB
    assert half.usable_bytes == 55 * GIB
    assert half.shared_with_host


def test_a_shared_pool_with_both_figures_takes_the_devices_as_its_limit() -> None:
    resolved = machine(device="amd-ryzen-ai-max-395-128gb", host_memory_gib=128, device_memory_gib=96)
    assert (resolved.memory_total_bytes, resolved.usable_bytes) == (128 * GIB, 96 * GIB)


def test_a_processors_capacity_is_the_hosts() -> None:
    resolved = machine(device="amd-epyc-9654", host_memory_gib=384)
    assert resolved.memory_total_bytes == resolved.host_memory_bytes == 384 * GIB
    assert resolved.usable_bytes == resolved.host_usable_bytes == 376 * GIB
    assert resolved.shared_with_host
    assert not resolved.assumed


def test_a_processor_without_stated_memory_assumes_modules_and_says_so() -> None:
    resolved = machine(device="amd-epyc-9654")
    assert resolved.memory_total_bytes == 12 * 16 * GIB
    assert "12 memory channels" in resolved.assumed["machine.host_memory_gib"]


def test_figures_of_the_request_win() -> None:
    resolved = machine(
        device="nvidia-rtx-4090-24gb", device_count=4, device_memory_gib=48, host_memory_gib=256, disk_free_gib=500
    )
    assert resolved.logical_devices == 4
    assert resolved.memory_total_bytes == 48 * GIB
    assert resolved.host_usable_bytes == 248 * GIB
    assert resolved.disk_free_bytes == 500 * GIB


def test_units_count_their_logical_devices() -> None:
    assert machine(device="amd-mi250-128gb", device_count=4).logical_devices == 8


def test_a_described_device() -> None:
    resolved = machine(
        device={
            "name": "Prototype",
            "vendor": "AMD",
            "memory_gib": 20,
            "memory_bandwidth_gb_s": 500,
            "tflops_float16": 80,
            "interconnect_gb_s": 64,
            "power_watts": 200,
        }
    )
    device = resolved.device
    assert resolved.usable_bytes == 20 * GIB
    assert device.allocator_family == "rocm"
    assert device.allocation_rounding_bytes == 512
    assert device.peak_flops == {"float16": 80 * 10**12}
    assert device.supports.bfloat16 == "absent"
    assert device.provenance["peak_flops"].basis == "given"
    assert device.interconnect is not None
    assert device.interconnect.bytes_per_second == 64 * 10**9
    assert not resolved.assumed


@pytest.mark.parametrize(
    ("kind", "vendor", "allocator"),
    [
        ("gpu", "unknown", "cuda"),
        ("gpu", "Intel", "xpu"),
        ("apu", "amd", "rocm"),
        ("apple", "apple", "mps"),
        ("tpu", "google", "xla"),
        ("accelerator", "aws", "neuron"),
        ("accelerator", "intel", "hpu"),
        ("accelerator", "someone", "xla"),
        ("cpu", "amd", "cpu"),
    ],
)
def test_a_described_device_of_any_kind_resolves(kind: str, vendor: str, allocator: str) -> None:
    figures = {"kind": kind, "vendor": vendor, "memory_gib": 32, "memory_bandwidth_gb_s": 100, "tflops_bfloat16": 10}
    resolved = machine(device=figures)
    assert resolved.device.allocator_family == allocator
    assert resolved.device.supports.bfloat16 == "native"
    assert 0 < resolved.usable_bytes <= 32 * GIB
    assert resolved.device.sustained_flops("bfloat16") is not None


def test_this_machine_needs_detection() -> None:
    with pytest.raises(MachineError, match="could not be detected") as caught:
        machine(device="this-machine")
    assert caught.value.field == "machine.device"


def test_this_machine_has_no_more_devices_than_it_has() -> None:
    assert machine(this_gpu(), device_count=2).logical_devices == 2
    with pytest.raises(MachineError, match="has 2 x") as caught:
        machine(this_gpu(), device_count=3)
    assert caught.value.field == "machine.device_count"


def test_this_machine_counts_what_others_hold() -> None:
    resolved = machine(this_gpu())
    assert resolved.is_this_machine
    assert resolved.usable_bytes == 24_166 * MIB - GIB


def test_this_machine_with_other_figures() -> None:
    resolved = machine(this_gpu(), device_memory_gib=48, host_memory_gib=128, disk_free_gib=1)
    assert resolved.memory_total_bytes == 48 * GIB
    assert resolved.in_use_bytes == GIB
    assert resolved.host_usable_bytes == 120 * GIB
    assert resolved.disk_free_bytes == GIB
    kept = machine(this_gpu(), device_memory_gib=48)
    assert kept.host_memory_bytes == 64 * GIB


def test_this_mac_with_other_memory_keeps_its_macos() -> None:
    mac = replace(machine(device="apple-m4-max", device_memory_gib=36), is_this_machine=True, macos_major=26)
    assert machine(mac, device_memory_gib=64).usable_bytes == working_set_bytes(64 * GIB, 26)


def test_this_processor_with_other_memory() -> None:
    here = replace(machine(device="generic-laptop-cpu-4c", host_memory_gib=8), is_this_machine=True, in_use_bytes=GIB)
    assert machine(here, host_memory_gib=32).usable_bytes == 30 * GIB


def test_unknown_devices_name_their_neighbours() -> None:
    with pytest.raises(UnknownDevice, match="nvidia-h100"):
        machine(device="nvidia-h100")


@given(
    st.sampled_from(all_devices()),
    st.integers(1, 64),
    st.none() | st.floats(0.1, 4096),
    st.none() | st.floats(0.1, 4096),
)
def test_every_device_resolves_to_a_consistent_machine(
    item: Any, count: int, device_gib: float | None, host_gib: float | None
) -> None:
    resolved = machine(device=item.id, device_count=count, device_memory_gib=device_gib, host_memory_gib=host_gib)
    assert resolved.logical_devices == count * item.logical_devices_per_unit
    assert 0 <= resolved.system_reserved_bytes <= resolved.memory_total_bytes
    assert 0 <= resolved.usable_bytes <= resolved.memory_total_bytes
    if resolved.host_memory_bytes is not None and resolved.host_usable_bytes is not None:
        assert 0 <= resolved.host_usable_bytes <= resolved.host_memory_bytes
    if resolved.shared_with_host:
        pools = 1 if item.kind == "cpu" else count
        assert resolved.host_memory_bytes == resolved.memory_total_bytes * pools


@given(st.integers(0, 2**45))
def test_the_systems_share_is_between_bounds(host_bytes: int) -> None:
    share = system_share_bytes(host_bytes)
    assert 0 <= share <= min(8 * GIB, host_bytes)


CPU = CpuFacts("CPU", "intel", 16, 2_000_000_000, frozenset({"avx2", "fma"}))


@pytest.mark.parametrize(
    ("flags", "vendor", "family", "expected"),
    [
        ({"sse4_2"}, "intel", 6, {"float32": 8}),
        ({"avx"}, "intel", 6, {"float32": 16}),
        ({"avx", "avx2", "fma"}, "intel", 6, {"float32": 32}),
        ({"avx2", "fma", "avx512f"}, "intel", 6, {"float32": 64}),
        ({"avx512f", "avx512_bf16"}, "amd", 25, {"float32": 32, "bfloat16": 64}),
        ({"avx512f", "avx512_bf16"}, "amd", 26, {"float32": 64, "bfloat16": 128}),
        ({"avx512f", "avx512_bf16", "amx_bf16"}, "intel", 6, {"float32": 64, "bfloat16": 1024}),
        ({"asimd"}, "arm", None, {"float32": 16}),
        ({"asimd", "sve", "bf16"}, "arm", None, {"float32": 32, "bfloat16": 128}),
    ],
)
def test_peaks_of_processors_follow_from_cores_clock_and_width(
    flags: set[str], vendor: str, family: int | None, expected: dict[str, int]
) -> None:
    profile = cpu_device(replace(CPU, flags=frozenset(flags), vendor=vendor, family=family))
    assert profile.peak_flops == {dtype: 16 * 2_000_000_000 * each for dtype, each in expected.items()}
    assert profile.provenance["peak_flops"].basis == "derived"
    assert profile.supports.bfloat16 == ("native" if "bfloat16" in expected else "emulated")
    assert profile.sustained_flops("bfloat16") is not None


def test_derived_peaks_agree_with_the_catalogues_rows() -> None:
    known = {item.id: item for item in all_devices()}["amd-epyc-9654"]
    flags = frozenset({"avx2", "fma", "avx512f", "avx512_bf16"})
    derived = cpu_device(CpuFacts("EPYC 9654", "amd", 96, 2_400_000_000, flags, 25))
    for dtype, peak in derived.peak_flops.items():
        assert peak == pytest.approx(known.peak_flops[dtype], rel=0.01)


def test_a_processor_without_a_clock_says_what_is_missing() -> None:
    profile = cpu_device(replace(CPU, hertz=None))
    assert profile.missing == ("base clock",)
    assert profile.peak_flops == {}
    assert profile.sustained_flops("float32") is None


def test_a_described_device_with_one_rate_has_stand_ins_for_the_others() -> None:
    figures = {"memory_gib": 16, "memory_bandwidth_gb_s": 300, "tflops_bfloat16": 100}
    device = machine(device=figures).device
    rates = [device.sustained_flops(dtype) for dtype in ("float32", "float16", "bfloat16")]
    assert all(rate is not None for rate in rates)
    assert [rate.provenance.basis for rate in rates if rate is not None] == ["emulated", "emulated", "prior"]
    assert device.sustained_flops("float8") is None
