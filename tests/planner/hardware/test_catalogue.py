"""What must hold for every row of the catalogue of devices."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from planner.hardware import DeviceProfile, all_devices, device
from planner.hardware.devices import normalise
from planner.hardware.facts import allocators, architectures, efficiencies, read_rows
from planner.units import GIB, MIB

DEVICES = {item.id: item for item in all_devices()}
ROWS = {row["id"]: row for row in read_rows("devices.jsonl")}
TRAINING_DTYPES = ("float32", "float16", "bfloat16")


def test_there_are_devices_of_every_vendor_and_kind() -> None:
    assert len(DEVICES) >= 150
    vendors = Counter(item.vendor for item in DEVICES.values())
    assert vendors["nvidia"] >= 90
    assert {"amd", "apple", "intel", "google", "aws"} <= set(vendors)
    assert {item.kind for item in DEVICES.values()} == {"gpu", "apu", "apple", "cpu", "tpu", "accelerator"}


def test_ids_are_unique_and_plain() -> None:
    assert len(ROWS) == len(read_rows("devices.jsonl"))
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", device_id) for device_id in DEVICES)


@pytest.mark.parametrize("item", DEVICES.values(), ids=DEVICES)
def test_every_figure_has_a_source(item: DeviceProfile) -> None:
    assert item.sources
    assert item.confidence in ("high", "medium", "low")
    needed = {"context_bytes", "allocation_rounding_bytes", "peak_flops", "memory_bandwidth_bytes_per_second"}
    if item.memory_total_bytes is not None:
        needed |= {"memory_total_bytes", "system_reserved_bytes"}
    if item.measured_flops:
        needed.add("measured_flops")
    for field in needed:
        assert item.provenance[field].basis, field
        assert item.provenance[field].source, field
    assert item.supports.sources
    for efficiency in item.matmul_efficiency.values():
        assert efficiency.source
        assert (efficiency.devices == 0) == (efficiency.basis == "prior")


@pytest.mark.parametrize("item", DEVICES.values(), ids=DEVICES)
def test_figures_are_in_a_sane_range(item: DeviceProfile) -> None:
    if item.memory_total_bytes is not None:
        assert 2 * GIB <= item.memory_total_bytes <= 1024 * GIB
        assert 0 <= item.system_reserved_bytes < item.memory_total_bytes
    assert item.memory_bandwidth_bytes_per_second is not None
    assert 30e9 <= item.memory_bandwidth_bytes_per_second <= 10e12
    assert all(10**10 <= peak <= 2 * 10**16 for peak in item.peak_flops.values())
    assert 0 <= item.context_bytes < GIB
    assert item.allocation_rounding_bytes in (64, 256, 512)
    assert item.tdp_watts is None or 5 <= item.tdp_watts <= 2000
    assert item.release_year is None or 2015 <= item.release_year <= 2026
    assert item.architecture in architectures()
    assert item.allocator_family in allocators()


@pytest.mark.parametrize("item", DEVICES.values(), ids=DEVICES)
def test_peaks_are_dense_and_ordered(item: DeviceProfile) -> None:
    """Sparse figures are twice the dense ones: a row with one of them would break these orders."""
    peaks = item.peak_flops
    assert any(dtype in peaks for dtype in TRAINING_DTYPES)
    if "float32" in peaks and "float16" in peaks:
        assert peaks["float32"] <= peaks["float16"] * 1.001
    if "bfloat16" in peaks and "float8" in peaks:
        assert peaks["float8"] <= 2.03 * peaks["bfloat16"]
    if "float16" in peaks and "bfloat16" in peaks and item.vendor == "nvidia":
        assert peaks["float16"] == peaks["bfloat16"]


@pytest.mark.parametrize("item", DEVICES.values(), ids=DEVICES)
def test_a_rate_is_known_for_a_dtype_to_train_in(item: DeviceProfile) -> None:
    rates = [item.sustained_flops(dtype) for dtype in TRAINING_DTYPES]
    assert any(rate is not None and rate.flops > 0 and rate.provenance.source for rate in rates)
    if item.supports.bfloat16 == "native" and "bfloat16" in item.peak_flops:
        assert item.sustained_flops("bfloat16") is not None


@pytest.mark.parametrize("item", DEVICES.values(), ids=DEVICES)
def test_measured_rates_stay_near_the_peak(item: DeviceProfile) -> None:
    """Above 1.3 of a peak only laptops, whose nominal clocks are those of the lowest power limit, and Jetsons."""
    for dtype, measured in item.measured_flops.items():
        peak = item.peak_flops.get(dtype)
        if peak is not None and item.product_line not in ("geforce_laptop", "jetson"):
            assert measured <= 1.3 * peak, dtype


def test_a_label_is_never_taken_for_the_drivers_figure_without_saying_so() -> None:
    for row in ROWS.values():
        memory = row["memory"]
        if memory is None:
            continue
        if memory["total_mib"] == memory["label_gib"] * 1024 and row["vendor"] not in ("apple",):
            assert memory["total_basis"] in ("specification", "driver", "driver_recalled")
        if memory["total_basis"] == "specification":
            assert "label" in memory["total_source"]


@pytest.mark.parametrize(
    ("device_id", "mebibytes"),
    [
        ("nvidia-b200-180gb", 183_359),
        ("nvidia-a100-sxm-80gb", 81_920),
        ("nvidia-h100-sxm-80gb", 81_559),
        ("nvidia-h200-sxm-141gb", 143_771),
        ("nvidia-t4-16gb", 15_360),
        ("nvidia-rtx-4090-24gb", 24_564),
        ("nvidia-rtx-5090-32gb", 32_607),
        ("amd-mi300x-192gb", 206_141_652_992 // MIB),
    ],
)
def test_totals_are_what_the_driver_reports(device_id: str, mebibytes: int) -> None:
    assert device(device_id).memory_total_bytes == mebibytes * MIB
    assert device(device_id).memory_basis == "driver"


@pytest.mark.parametrize(
    ("device_id", "logical", "gibibytes", "teraflops"),
    [
        ("amd-mi250-128gb", 2, 64, 181),
        ("amd-mi250x-128gb", 2, 64, 191.5),
        ("intel-max-1550-128gb", 2, 64, 419.5),
        ("google-tpu-v7x-chip", 2, 96, 1153.5),
        ("google-tpu-v3-chip", 2, 16, 61.5),
        ("aws-trainium2-96gb", 4, 24, 166.75),
        ("apple-m2-ultra", 1, 192, 13.6),
        ("amd-mi300x-192gb", 1, None, 1307),
    ],
)
def test_units_with_several_logical_devices_hold_one_share(
    device_id: str, logical: int, gibibytes: int | None, teraflops: float
) -> None:
    item = device(device_id)
    assert item.logical_devices_per_unit == logical
    assert item.peak_flops["bfloat16"] == round(teraflops * 10**12)
    if gibibytes is not None:
        assert item.memory_total_bytes == gibibytes * GIB


def test_only_named_devices_have_several_logical_ones() -> None:
    several = {item.id for item in DEVICES.values() if item.logical_devices_per_unit > 1}
    assert several == {
        "amd-mi250-128gb",
        "amd-mi250x-128gb",
        "intel-max-1550-128gb",
        "google-tpu-v2-chip",
        "google-tpu-v3-chip",
        "google-tpu-v7x-chip",
        "aws-trainium1-32gb",
        "aws-trainium2-96gb",
        "aws-inferentia2-32gb",
    }


def test_geforce_peaks_are_those_of_float32_accumulation() -> None:
    """RTX 4090: NVIDIA advertises 330.3 float16 with float16 accumulation; training reaches half (165 measured)."""
    assert device("nvidia-rtx-4090-24gb").peak_flops["float16"] == 165_200_000_000_000
    for row in ROWS.values():
        advertised = row["peak_tflops_float16_accumulate"]
        full_rate = row["id"] == "nvidia-titan-rtx-24gb"
        if row["product_line"].startswith("geforce") and not full_rate and advertised and "float16" in advertised:
            assert row["peak_tflops"]["float16"] == pytest.approx(advertised["float16"] / 2, rel=0.02)


def test_an_alias_names_one_device_or_several_sizes_of_one() -> None:
    owners: dict[str, set[str]] = {}
    for item in DEVICES.values():
        for alias in item.aliases:
            owners.setdefault(normalise(alias), set()).add(item.id)
    for alias, ids in owners.items():
        sizes = {DEVICES[device_id].memory_total_bytes for device_id in ids}
        assert len(sizes) == len(ids), alias


def test_pci_ids_are_unique() -> None:
    seen = Counter(pci_id for item in DEVICES.values() for pci_id in item.pci_ids)
    assert all(count == 1 for count in seen.values())
    assert all(re.fullmatch(r"[0-9a-f]{4}:[0-9a-f]{4}(:[0-9a-f]{2})?", pci_id) for pci_id in seen)


@pytest.mark.parametrize(
    ("device_id", "bfloat16", "attention"),
    [
        ("nvidia-t4-16gb", "emulated", "yes"),
        ("nvidia-v100-sxm2-32gb", "emulated", "yes"),
        ("nvidia-rtx-3090-24gb", "native", "yes"),
        ("amd-rx-6800-16gb", "emulated", "no"),
        ("amd-mi100-32gb", "native", "no"),
        ("amd-rx-7900-xtx-24gb", "native", "yes"),
        ("amd-rx-7800-xt-16gb", "native", "experimental_switch"),
        ("intel-arc-a770-16gb", "native", "causal_without_mask"),
        ("apple-m1-pro", "emulated", "no"),
        ("apple-m4-max", "native", "no"),
        ("amd-epyc-7763", "emulated", "yes"),
        ("intel-xeon-8480plus", "native", "yes"),
    ],
)
def test_what_devices_cannot_do(device_id: str, bfloat16: str, attention: str) -> None:
    supports = device(device_id).supports
    assert (supports.bfloat16, supports.fused_attention_backward) == (bfloat16, attention)


def test_float8_needs_software_and_hardware() -> None:
    assert device("nvidia-h100-sxm-80gb").supports.float8 == "native"
    assert device("nvidia-a100-sxm-80gb").supports.float8 == "absent"
    assert device("amd-rx-9070-xt-16gb").supports.float8 == "no_software"


def test_arc_limits_one_allocation_to_4_gib() -> None:
    assert device("intel-arc-a770-16gb").supports.max_single_allocation_bytes == 4 * GIB
    assert device("intel-max-1100-48gb").supports.max_single_allocation_bytes is None


def test_bfloat16_traps_are_known() -> None:
    t4, v100 = device("nvidia-t4-16gb"), device("nvidia-v100-pcie-16gb")
    for item in (t4, v100):
        slow, fast = item.sustained_flops("bfloat16"), item.sustained_flops("float16")
        assert slow is not None
        assert fast is not None
        assert slow.flops < fast.flops / 5
    gtx = device("nvidia-gtx-1660-super-6gb")
    half, single = gtx.sustained_flops("float16"), gtx.sustained_flops("float32")
    assert half is not None
    assert single is not None
    assert half.flops < single.flops / 5


def test_class_medians_agree_with_the_published_ones() -> None:
    published = {"geforce": 1.04, "nvidia_workstation": 0.80, "radeon": 0.75, "arc": 0.62, "instinct": 0.60}
    for product_line, fraction in published.items():
        assert efficiencies(product_line)["bfloat16"].fraction == pytest.approx(fraction, abs=0.03), product_line
    assert efficiencies("nvidia_data_centre")["bfloat16"].fraction == pytest.approx(0.76, abs=0.04)


def test_measured_contexts() -> None:
    assert device("nvidia-a100-sxm-80gb").context_bytes == 501 * MIB
    assert device("nvidia-l4-24gb").context_bytes == 226 * MIB
    assert 133 * MIB <= device("nvidia-t4-16gb").context_bytes <= 147 * MIB
    assert device("nvidia-rtx-4090-24gb").provenance["context_bytes"].basis == "prior"


def test_allocators_round_as_pytorch_does() -> None:
    rounding = {item.allocator_family: item.allocation_rounding_bytes for item in DEVICES.values()}
    assert (rounding["cuda"], rounding["rocm"], rounding["xpu"], rounding["cpu"]) == (512, 512, 512, 64)


def test_both_dtypes_of_a_mixed_run_have_a_rate_everywhere() -> None:
    """Adapters and optimizers compute in float32 beside bfloat16: a device without a float32 rate has a stand-in."""
    for item in DEVICES.values():
        assert item.sustained_flops("float32") is not None, item.id
        assert item.sustained_flops("bfloat16") is not None, item.id
    gaudi = device("intel-gaudi2-96gb").sustained_flops("float32")
    assert gaudi is not None
    assert gaudi.provenance.basis == "emulated"
