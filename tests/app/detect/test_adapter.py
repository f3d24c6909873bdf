from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.detect.adapter import read_adapter
from planner.hardware import all_devices


@pytest.mark.parametrize(
    ("said", "devices"),
    [
        (
            "ANGLE (NVIDIA, NVIDIA GeForce RTX 4090 (0x00002684) Direct3D11 vs_5_0 ps_5_0, D3D11)",
            ["nvidia-rtx-4090-24gb"],
        ),
        ("ANGLE (NVIDIA Corporation, NVIDIA GeForce RTX 4090/PCIe/SSE2, OpenGL 4.5.0)", ["nvidia-rtx-4090-24gb"]),
        ("NVIDIA GeForce RTX 4090/PCIe/SSE2", ["nvidia-rtx-4090-24gb"]),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", ["nvidia-rtx-4090-laptop-16gb"]),
        ("NVIDIA GeForce RTX 4060 Ti", ["nvidia-rtx-4060-ti-8gb", "nvidia-rtx-4060-ti-16gb"]),
        ("ANGLE (Apple, ANGLE Metal Renderer: Apple M2 Max, Unspecified Version)", ["apple-m2-max"]),
        (
            "AMD Radeon RX 7900 XTX (radeonsi, navi31, LLVM 17.0.6, DRM 3.57, 6.8.0-41-generic)",
            ["amd-rx-7900-xtx-24gb"],
        ),
        ("ANGLE (AMD, AMD Radeon RX 6900 XT (0x000073BF) Direct3D11 vs_5_0 ps_5_0, D3D11)", ["amd-rx-6900-xt-16gb"]),
        ("ANGLE (Intel, Mesa Intel(R) Arc(tm) A770 Graphics (DG2), OpenGL 4.6)", ["intel-arc-a770-16gb"]),
    ],
)
def test_a_drivers_name_is_found_in_its_wrapping(said: str, devices: list[str]) -> None:
    assert [item.id for item in read_adapter(said).devices] == devices


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("", "no graphics adapter"),
        ("Apple GPU", "hides"),
        ("NVIDIA GeForce GTX 980, or similar", "hides"),
        ("Google SwiftShader", "without a graphics card"),
        ("ANGLE (Google, Vulkan 1.3.0 (SwiftShader Device (Subzero) (0x0000C0DE)), SwiftShader driver)", "without"),
        ("llvmpipe (LLVM 15.0.7, 256 bits)", "without"),
        ("Intel(R) UHD Graphics 630", "No device"),
        ("NVIDIA GeForce RTX 40", "No device"),
        ("RTX 4090 of a friend", "No device"),
        ("NVIDIA GeForce RTX 4090 NVIDIA GeForce RTX 3090", "No device"),
    ],
)
def test_what_names_no_device_gets_none_and_the_reason(said: str, why: str) -> None:
    found = read_adapter(said)
    assert found.devices == ()
    assert why in found.why


def test_every_name_of_a_graphics_card_leads_to_it() -> None:
    for item in all_devices():
        for name in item.aliases if item.kind in ("gpu", "apple") else ():
            wrapped = f"ANGLE ({item.vendor}, {name} Direct3D11 vs_5_0 ps_5_0, D3D11)"
            assert item in read_adapter(name).devices
            assert "(" in name or item in read_adapter(wrapped).devices


@given(st.text(max_size=400))
def test_any_text_is_answered(said: str) -> None:
    found = read_adapter(said)
    assert bool(found.devices) != bool(found.why)
