"""From what was detected to a machine of the planner."""

from __future__ import annotations

import json
import sys as python
import time
from dataclasses import replace
from pathlib import Path

import pytest

from app.detect import DetectedMachine, FoundCpu, FoundDevice, FoundMemory, Roots, detect, to_machine, to_machines
from planner.hardware import Machine, working_set_bytes
from planner.units import GIB, MIB
from tests.app.detect.trees import amd_card, memory, processor

CPU = FoundCpu("Some CPU", "intel", 8, 8, 16, 3_000_000_000, 6, ("avx2", "fma"))
HOST = FoundMemory(64 * GIB, 48 * GIB, 64 * GIB)
T4 = FoundDevice(
    vendor="nvidia",
    kind="gpu",
    name="Tesla T4",
    architecture="sm_75",
    memory_total_bytes=15360 * MIB,
    reserved_bytes=448 * MIB,
    used_bytes=100 * MIB,
)


def resolved(*devices: FoundDevice, memory: FoundMemory = HOST, macos: int | None = None) -> Machine:
    found = DetectedMachine(
        system="linux", cpu=CPU, memory=memory, disk_free_bytes=GIB, devices=devices, macos_major=macos
    )
    machine = to_machine(found)
    assert machine is not None
    assert machine.is_this_machine
    assert machine.disk_free_bytes == GIB
    return machine


def test_equal_cards_are_one_group_with_the_fullest_ones_use() -> None:
    machine = resolved(T4, replace(T4, used_bytes=2 * GIB))
    assert (machine.device.id, machine.device_count) == ("nvidia-t4-16gb", 2)
    assert machine.in_use_bytes == 2 * GIB
    assert machine.usable_bytes == 14_912 * MIB - 2 * GIB
    assert (machine.host_memory_bytes, machine.host_usable_bytes) == (64 * GIB, 48 * GIB)


def test_a_driver_that_names_no_reserve_counts_it_as_used() -> None:
    machine = resolved(replace(T4, reserved_bytes=None, used_bytes=548 * MIB))
    assert machine.system_reserved_bytes == 448 * MIB
    assert machine.in_use_bytes == 100 * MIB


def test_different_cards_are_different_machines_the_largest_first() -> None:
    large = FoundDevice(vendor="nvidia", kind="gpu", name="NVIDIA L40", memory_total_bytes=46068 * MIB)
    found = DetectedMachine(system="linux", cpu=CPU, memory=HOST, devices=(T4, large))
    assert [machine.device.id for machine in to_machines(found)] == ["nvidia-l40-48gb", "nvidia-t4-16gb", "this-cpu"]


def test_an_unknown_card_keeps_its_memory_and_says_what_is_missing() -> None:
    machine = resolved(replace(T4, name="NVIDIA L4 Pro", architecture="sm_89", memory_total_bytes=20 * GIB))
    device = machine.device
    assert (device.id, device.name, device.architecture) == ("unknown", "NVIDIA L4 Pro", "sm_89")
    assert "memory_bandwidth_gb_s" in device.missing
    assert machine.memory_total_bytes == 20 * GIB
    assert device.supports.bfloat16 == "native"
    assert device.peak_flops == {}


def test_a_card_of_a_newer_architecture_is_unknown_all_the_way() -> None:
    machine = resolved(replace(T4, name="NVIDIA R100", architecture="sm_200", memory_total_bytes=288 * GIB))
    assert machine.device.architecture == "unknown-cuda"
    assert machine.device.supports.bfloat16 == "unknown"


def test_half_a_unit_counts_as_what_is_there() -> None:
    chip = FoundDevice(
        vendor="amd", kind="gpu", name="AMD Instinct MI250X", pci_id="1002:7408:00", memory_total_bytes=65520 * MIB
    )
    assert (resolved(chip, chip).device_count, resolved(chip, chip).logical_devices) == (1, 2)
    assert (resolved(chip).device_count, resolved(chip).logical_devices) == (1, 1)


def test_tiles_of_one_card_are_logical_devices() -> None:
    card = FoundDevice(
        vendor="intel", kind="gpu", name="x", pci_id="8086:0bd5:2f", memory_total_bytes=128 * GIB, tiles=2
    )
    machine = resolved(card)
    assert machine.device.id == "intel-max-1550-128gb"
    assert (machine.device_count, machine.logical_devices, machine.memory_total_bytes) == (1, 2, 64 * GIB)


def test_a_mac_shares_its_memory_under_its_own_limit() -> None:
    chip = FoundDevice(vendor="apple", kind="apple", name="Apple M4 Max")
    machine = resolved(chip, memory=HOST, macos=26)
    assert machine.device.id == "apple-m4-max"
    assert machine.memory_total_bytes == 64 * GIB
    assert machine.system_reserved_bytes == 64 * GIB - working_set_bytes(64 * GIB, 26)
    assert machine.usable_bytes == 48 * GIB, "less is free than the limit allows"
    raised = resolved(replace(chip, shared_limit_bytes=60 * GIB), memory=FoundMemory(64 * GIB, 62 * GIB, 64 * GIB))
    assert raised.usable_bytes == 60 * GIB


def test_a_new_apple_chip_is_unknown_but_has_memory() -> None:
    machine = resolved(FoundDevice(vendor="apple", kind="apple", name="Apple M9"), macos=26)
    assert (machine.device.id, machine.device.kind) == ("unknown", "apple")
    assert 0 < machine.usable_bytes <= 48 * GIB


def test_an_apu_takes_the_larger_of_carve_out_and_gtt() -> None:
    chip = FoundDevice(
        vendor="amd",
        kind="apu",
        name="AMD Radeon 8060S Graphics",
        pci_id="1002:1586:c1",
        architecture="gfx1151",
        memory_total_bytes=GIB // 2,
        shared_limit_bytes=56 * GIB,
        used_bytes=0,
    )
    machine = resolved(chip, memory=FoundMemory(120 * GIB, 110 * GIB, 120 * GIB))
    assert machine.device.id == "amd-ryzen-ai-max-395-128gb"
    assert machine.usable_bytes == 56 * GIB
    carved = replace(chip, memory_total_bytes=96 * GIB, shared_limit_bytes=15 * GIB, used_bytes=GIB)
    machine = resolved(carved, memory=FoundMemory(31 * GIB, 25 * GIB, 31 * GIB))
    assert (machine.memory_total_bytes, machine.usable_bytes) == (127 * GIB, 95 * GIB)


def test_gb10_shares_the_hosts_memory() -> None:
    chip = FoundDevice(vendor="nvidia", kind="apu", name="NVIDIA GB10", architecture="sm_121")
    machine = resolved(chip, memory=FoundMemory(119 * GIB, 110 * GIB, 119 * GIB))
    assert machine.device.id == "nvidia-dgx-spark-gb10-128gb"
    assert machine.usable_bytes <= 115 * GIB


def test_a_processor_keeps_what_is_free() -> None:
    machine = resolved()
    assert (machine.device.kind, machine.usable_bytes) == ("cpu", 48 * GIB)
    assert machine.device.peak_flops == {"float32": 8 * 3_000_000_000 * 32}


def test_a_processor_with_all_its_cores_is_the_catalogues() -> None:
    name = "AMD EPYC 7763 64-Core Processor"
    whole = DetectedMachine(system="linux", cpu=replace(CPU, name=name, cores=64), memory=HOST)
    part = DetectedMachine(system="linux", cpu=replace(CPU, name=name, cores=4), memory=HOST)
    assert [machine.device.id for machine in to_machines(whole)] == ["amd-epyc-7763"]
    assert [machine.device.id for machine in to_machines(part)] == ["this-cpu"]


@pytest.mark.parametrize(
    "useless",
    [
        FoundDevice(vendor="intel", kind="apu", name="Intel graphics 8086:a780:04", pci_id="8086:a780:04"),
        FoundDevice(vendor="amd", kind="gpu", name="AMD device", pci_id="1002:ffff:00", memory_total_bytes=GIB),
        FoundDevice(vendor="amd", kind="apu", name="AMD device", architecture="gfx1036", memory_total_bytes=GIB // 2),
    ],
)
def test_graphics_that_can_not_train_are_left_out(useless: FoundDevice) -> None:
    assert resolved(useless).device.kind == "cpu"


def test_nothing_detected_is_no_machine() -> None:
    assert to_machine(DetectedMachine(system="linux")) is None


def test_a_whole_fake_linux_machine(tmp_path: Path) -> None:
    proc, sys = tmp_path / "proc", tmp_path / "sys"
    processor(proc, sys, name="AMD Ryzen 9 7950X 16-Core Processor", threads=32, vendor="AuthenticAMD", family=25)
    memory(proc, 62 * 1024, 55 * 1024)
    amd_card(sys, 0, "0x744c", "0xc8", vram=25753026560, used=GIB, gtt=31 * GIB, gfx=110000)
    amd_card(sys, 1, "0x164e", "0xc1", vram=GIB // 2, gtt=31 * GIB, gfx=100306)
    machines = to_machines(detect(Roots(proc, sys, tmp_path), platform="linux"))
    card = machines[0]
    assert (card.device.id, card.device_count) == ("amd-rx-7900-xtx-24gb", 1)
    assert card.usable_bytes == 25753026560 - GIB, "the reserve is part of what amdgpu counts as used"
    assert machines[-1].device.kind == "cpu"
    assert len(machines) == 2


def test_detection_of_an_empty_tree_says_why(tmp_path: Path) -> None:
    found = detect(Roots(tmp_path / "no", tmp_path / "no", tmp_path / "no"), platform="linux")
    assert {"cpu", "memory", "disk", "amd", "intel"} <= set(found.reasons)
    assert to_machine(found) is None


@pytest.mark.parametrize("platform", ["darwin", "win32", "freebsd14"])
def test_another_system_never_raises(platform: str, tmp_path: Path) -> None:
    found = detect(Roots(tmp_path, tmp_path, tmp_path), platform=platform)
    assert json.loads(json.dumps(found.to_json()))["system"] in ("macos", "windows", "linux")


@pytest.mark.skipif(not python.platform.startswith("linux"), reason="reads /proc")
def test_this_machine_is_found_quickly_and_prints_as_json() -> None:
    detect()
    start = time.perf_counter()
    found = detect()
    assert time.perf_counter() - start < 3
    assert json.loads(json.dumps(found.to_json()))["cpu"]["cores"] >= 1
    machine = to_machine(found)
    assert machine is not None
    assert 0 < machine.usable_bytes <= machine.memory_total_bytes
    assert machine.disk_free_bytes is not None


def test_detection_imports_no_torch() -> None:
    import subprocess

    code = (
        "import sys, app.detect as d; d.to_machine(d.detect()); assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([python.executable, "-c", code], check=True, timeout=30)
