from __future__ import annotations

import contextlib
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.detect import detect, to_machine, to_machines
from app.detect.pasted import COMMANDS, MARK, MAXIMUM_CHARACTERS, Undescribed, described, read_machine
from app.machines import values_of
from planner.contract import MachineRequest
from planner.hardware import resolve_machine
from planner.units import GIB, KIB, MIB
from tests.app.detect import printed


def values(text: str) -> dict[str, str]:
    machine = to_machine(read_machine(text))
    assert machine is not None
    return values_of(machine)


def test_two_cards_and_their_host_are_one_machine() -> None:
    found = read_machine(printed.NVIDIA + printed.HOST)
    assert [device.used_bytes for device in found.devices] == [1021 * MIB, 12 * MIB]
    assert found.cpu is not None
    assert (found.cpu.cores, found.cpu.family, found.cpu.vendor) == (2, 26, "amd")
    assert "avx512_bf16" in found.cpu.flags
    assert found.memory is not None
    assert found.memory.total_bytes > found.memory.available_bytes > 0
    assert found.disk_free_bytes is not None
    told = values(printed.NVIDIA + printed.HOST)
    assert (told["device"], told["device_count"]) == ("nvidia-rtx-4090-24gb", "2")
    assert float(told["host_memory_gib"]) == pytest.approx(found.memory.total_bytes / GIB, rel=0.01)


def test_a_list_of_names_is_enough_where_the_name_has_one_size() -> None:
    assert values(printed.NVIDIA_LISTED)["device"] == "nvidia-rtx-4090-24gb"


@pytest.mark.parametrize(
    ("text", "device"),
    [
        (printed.ROCM, "amd-rx-7900-xtx-24gb"),
        (printed.AMD_SMI, "amd-mi300x-192gb"),
        (printed.MAC, "apple-m2-max"),
        ("NVIDIA GeForce RTX 4060 Ti, 16380 MiB, 300 MiB", "nvidia-rtx-4060-ti-16gb"),
        ("NVIDIA GeForce RTX 4060 Ti, 8188 MiB, 300 MiB", "nvidia-rtx-4060-ti-8gb"),
    ],
)
def test_each_tools_words_are_one_device(text: str, device: str) -> None:
    assert values(text)["device"] == device


def test_a_mac_has_its_memory_its_system_and_its_disk() -> None:
    found = read_machine(printed.MAC)
    assert found.macos_major == 14
    assert found.disk_free_bytes == 532_000_000 * KIB
    assert values(printed.MAC)["host_memory_gib"] == "64"


def test_a_processor_that_is_not_in_the_catalogue_gives_its_own_figures() -> None:
    told = values(printed.HOST)
    assert told["device.kind"] == "cpu"
    assert float(told["device.tflops_float32"]) > 0.1
    figures = {name.removeprefix("device."): text for name, text in told.items() if name.startswith("device.")}
    MachineRequest.model_validate({"device": figures})


def test_an_unknown_card_is_described_and_never_guessed() -> None:
    told = values("NVIDIA GeForce RTX 9090 Imaginary, 65536 MiB, 0 MiB")
    assert "device" not in told
    assert (told["device.name"], told["device.memory_gib"]) == ("NVIDIA GeForce RTX 9090 Imaginary", "64")


def test_what_doctor_prints_is_read_back_without_serial_numbers() -> None:
    found = detect()
    line = described(found)
    assert line.startswith(MARK)
    assert "\n" not in line
    again = read_machine(f"some noise\n{line}\nmore noise")
    assert (again.cpu, again.memory, again.disk_free_bytes) == (found.cpu, found.memory, found.disk_free_bytes)
    assert all(device.uuid is None for device in again.devices)
    machine = to_machine(again)
    assert machine is not None


def test_a_known_machine_resolves_to_itself() -> None:
    told = values(printed.AMD_SMI)
    assert resolve_machine(MachineRequest(device=told["device"])).device.name == "Instinct MI300X 192GB"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "x" * (MAXIMUM_CHARACTERS + 1),
        MARK + "{}",
        MARK + "not json",
        MARK + json.dumps({"system": "x", "devices": [{"vendor": "a", "kind": "gpu", "name": "n", "tiles": 10**9}]}),
        MARK + json.dumps({"system": "x", "memory": {"total_bytes": -1, "available_bytes": 0, "installed_bytes": 0}}),
        MARK + json.dumps({"system": "x", "disk_free_bytes": 10**30}),
        MARK + "[" * 5000,
        "Architecture: x86_64",
    ],
)
def test_what_describes_nothing_is_refused(text: str) -> None:
    with pytest.raises(Undescribed):
        read_machine(text)


@given(st.text(max_size=1000))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(Undescribed):
        to_machines(read_machine(text))


@pytest.mark.parametrize("piece", ["GPU[0]\t: ", "GPU: 0\n", "a, 1 MiB, ", "Mem: 1 ", "Chip: ", "CPU(s): 9"])
def test_hostile_texts_take_no_time(piece: str) -> None:
    text = (piece * MAXIMUM_CHARACTERS)[:MAXIMUM_CHARACTERS]
    started = time.monotonic()
    with contextlib.suppress(Undescribed):
        to_machines(read_machine(text))
    assert time.monotonic() - started < 5


def test_a_machine_has_a_limit_of_devices() -> None:
    assert len(read_machine("NVIDIA L4, 23034 MiB, 0 MiB\n" * 2000).devices) == 64


def test_every_command_is_one_line() -> None:
    assert all("\n" not in command and len(command) < 250 for command in COMMANDS.values())
