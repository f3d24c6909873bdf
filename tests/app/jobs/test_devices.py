"""Two kinds of accelerator in one machine, as drivers would name them: which job gets which, and sees no other."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from app.db.workers import queue_of_devices, queues_of
from app.detect import DetectedMachine, FoundDevice, to_machines
from app.jobs.devices import Slot, counts_of, device_class, given, slots_of, visible
from app.jobs.locks import device_locks
from planner.units import GIB, MIB

T4, L40 = "cuda/nvidia-t4-16gb", "cuda/nvidia-l40-48gb"


def nvidia(index: int, name: str, mib: int, uuid: str | None = None) -> FoundDevice:
    found = FoundDevice(vendor="nvidia", kind="gpu", name=name, memory_total_bytes=mib * MIB, index=index)
    return replace(found, uuid=uuid)


MIXED = DetectedMachine(
    system="linux",
    devices=(
        nvidia(0, "Tesla T4", 15360, "GPU-aaaa"),
        nvidia(1, "NVIDIA L40", 46068, "GPU-bbbb"),
        nvidia(2, "Tesla T4", 15360, "GPU-cccc"),
        FoundDevice(vendor="amd", kind="gpu", name="AMD Radeon RX 7900 XTX", pci_id="1002:744c:c8", index=0,
                    address="0000:43:00.0", architecture="gfx1100", memory_total_bytes=24560 * MIB),
        FoundDevice(vendor="intel", kind="gpu", name="Intel graphics 8086:0bd5:2f", pci_id="8086:0bd5:2f", index=1,
                    address="0000:53:00.0", tiles=2, memory_total_bytes=128 * GIB),
    ),
)  # fmt: skip


def slots(found: DetectedMachine, name: str) -> list[Slot]:
    return [slot for slot in slots_of(found) if slot.device_class == name]


def test_each_device_stands_apart_under_its_physical_name() -> None:
    assert slots(MIXED, T4) == [Slot(T4, "GPU-aaaa", "GPU-aaaa"), Slot(T4, "GPU-cccc", "GPU-cccc")]
    assert slots(MIXED, L40) == [Slot(L40, "GPU-bbbb", "GPU-bbbb")]
    radeon = [slot for slot in slots_of(MIXED) if slot.device_class.startswith("rocm/")]
    assert [(slot.lock, slot.mask) for slot in radeon] == [("0000:43:00.0", "0")]
    tiles = [slot for slot in slots_of(MIXED) if slot.device_class.startswith("xpu/")]
    assert [(slot.lock, slot.mask) for slot in tiles] == [("0000:53:00.0.0", "1"), ("0000:53:00.0.1", "2")]


def test_a_device_without_a_name_of_its_own_goes_by_its_number() -> None:
    found = DetectedMachine(system="linux", devices=(nvidia(1, "Tesla T4", 15360),))
    assert slots_of(found) == [Slot(T4, "nvidia-1", "1")]


def test_a_worker_advertises_how_many_it_has_of_each_class() -> None:
    classes = [device_class(machine.device) for machine in to_machines(MIXED)]
    counts = counts_of(slots_of(MIXED), classes)
    assert (counts[T4], counts[L40]) == (2, 1)
    assert queues_of("one", {T4: 2, "cpu": 1}) == [T4, f"{T4} x2", "cpu", "worker/one"]
    assert queue_of_devices("cpu", 4) == "cpu"  # ranks share the processor


@pytest.mark.parametrize(
    ("chosen", "environment"),
    [
        (slots(MIXED, T4), {"CUDA_VISIBLE_DEVICES": "GPU-aaaa,GPU-cccc", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}),
        ([Slot("rocm/x", "0000:43:00.0", "3")], {"HIP_VISIBLE_DEVICES": "3"}),
        (
            [Slot("xpu/x", "0000:53:00.0", "1")],
            {"ZE_AFFINITY_MASK": "1", "ZE_ENABLE_PCI_ID_DEVICE_ORDER": "1", "ZE_FLAT_DEVICE_HIERARCHY": "FLAT"},
        ),
        ([Slot("mps/apple-m4", "apple-0", "0")], {}),
        ([], {"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": ""}),
    ],
)
def test_a_process_sees_its_devices_and_no_other(chosen: list[Slot], environment: dict[str, str]) -> None:
    assert visible(chosen) == environment


@pytest.mark.parametrize(
    ("environment", "names"),
    [
        ({}, ["Tesla T4", "NVIDIA L40", "Tesla T4"]),
        ({"CUDA_VISIBLE_DEVICES": "1"}, ["NVIDIA L40"]),
        ({"CUDA_VISIBLE_DEVICES": "GPU-c, 0"}, ["Tesla T4", "Tesla T4"]),
        ({"CUDA_VISIBLE_DEVICES": "1,-1,0"}, ["NVIDIA L40"]),
        ({"CUDA_VISIBLE_DEVICES": ""}, []),
    ],
)
def test_a_worker_has_only_what_its_own_environment_gives_it(environment: Mapping[str, str], names: list[str]) -> None:
    found = given(MIXED, environment)
    assert [device.name for device in found.devices if device.vendor == "nvidia"] == names
    assert len([device for device in found.devices if device.vendor != "nvidia"]) == 2


def test_the_inner_of_two_masks_counts_what_the_outer_lets_through() -> None:
    cards = tuple(replace(MIXED.devices[3], index=index, address=f"0000:0{index}:00.0") for index in range(3))
    found = given(
        DetectedMachine(system="linux", devices=cards), {"ROCR_VISIBLE_DEVICES": "1,2", "HIP_VISIBLE_DEVICES": "1"}
    )
    assert [slot.mask for slot in slots_of(found)] == ["2"]


def after(times: int) -> Callable[[float], bool]:
    """Gives up at the so-manieth look."""
    left = iter(range(times))
    return lambda _seconds: next(left, None) is None


@pytest.fixture(autouse=True)
def _own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


@pytest.mark.skipif(sys.platform == "win32", reason="there is no worker")
def test_jobs_share_out_the_devices_of_a_class_and_wait_for_as_many_as_they_need() -> None:
    both = slots(MIXED, T4)
    with device_locks(both, 1, after(0)) as first, device_locks(both, 1, after(0)) as second:
        assert first is not None
        assert second is not None
        assert {first.slots[0].lock, second.slots[0].lock} == {"GPU-aaaa", "GPU-cccc"}
        with device_locks(both, 1, after(1)) as third:
            assert third is None
        with device_locks(slots(MIXED, L40), 1, after(0)) as other_kind:
            assert other_kind is not None
    with device_locks(both, 1, after(0)), device_locks(both, 2, after(1)) as pair:
        assert pair is None
    with device_locks(both, 2, after(0)) as pair:
        assert pair is not None
        assert pair.slots == both


@pytest.mark.skipif(sys.platform == "win32", reason="there is no worker")
def test_the_processor_is_shared_by_accelerators_and_alone_for_its_own_jobs() -> None:
    with device_locks(slots(MIXED, T4), 1, after(0)) as accelerated:
        assert accelerated is not None
        with device_locks([], 0, after(1)) as processor:
            assert processor is None
    with device_locks([], 0, after(0)) as processor:
        assert processor is not None
        with device_locks(slots(MIXED, T4), 1, after(1)) as accelerated:
            assert accelerated is None


@pytest.mark.skipif(sys.platform == "win32", reason="there is no worker")
def test_a_lock_holds_while_anything_of_the_job_lives() -> None:
    """The worker may die: what its job's process inherited keeps the device."""
    with device_locks(slots(MIXED, L40), 1, after(0)) as held:
        assert held is not None
        child = subprocess.Popen(["sleep", "600"], pass_fds=held.descriptors)
    try:
        with device_locks(slots(MIXED, L40), 1, after(1)) as again:
            assert again is None
    finally:
        child.kill()
        child.wait()
    with device_locks(slots(MIXED, L40), 1, after(0)) as again:
        assert again is not None
