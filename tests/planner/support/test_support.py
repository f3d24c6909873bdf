"""What runs where, with versions and sources."""

from __future__ import annotations

import pytest

from planner.hardware import all_devices, device
from planner.support import all_rows, attention_kernel, support_for, unsupported_reason


def reason(device_id: str, method: str = "lora", **kw: str) -> str | None:
    values = {"scheme": "nf4" if method == "qlora" else None, "optimizer": "adamw", "framework": "transformers"}
    found = unsupported_reason(device(device_id), method, **{**values, "model_type": "llama", **kw})  # type: ignore[arg-type]
    return None if found is None else found.code


def test_every_row_has_a_source_a_date_and_a_status() -> None:
    rows = all_rows()
    assert len(rows) >= 120
    assert all(found.source and found.as_of and found.status for found in rows)


@pytest.mark.parametrize(
    "device_id",
    ["nvidia-rtx-4090-24gb", "amd-rx-7900-xtx-24gb", "intel-arc-a770-16gb", "apple-m2-ultra", "nvidia-t4-16gb"],
)
def test_qlora_is_no_longer_nvidia_only(device_id: str) -> None:
    assert reason(device_id, "qlora") is None


@pytest.mark.parametrize("device_id", ["google-tpu-v5e-chip"])
def test_tpus_need_their_own_trainer(device_id: str) -> None:
    assert reason(device_id) == "unsupported:framework"


def test_apple_has_no_8_bit_optimizer() -> None:
    assert reason("apple-m2-ultra", optimizer="adamw_8bit") == "unsupported:8-bit optimizer"


def test_int8_needs_compute_capability_7_5() -> None:
    assert reason("nvidia-p100-pcie-16gb", "qlora", scheme="int8") == "unsupported:quantised base"
    assert reason("nvidia-p100-pcie-16gb", "qlora") is None


def test_nobody_trains_longcat() -> None:
    assert reason("nvidia-h100-sxm-80gb", model_type="longcat_flash") == "unsupported:model"


def test_torchtune_has_ended_and_says_so() -> None:
    found = support_for(device("nvidia-h100-sxm-80gb"), "lora", None, "adamw", "torchtune", "llama")
    assert "ended" in found[0].note


def test_each_supported_component_names_a_source() -> None:
    for profile in all_devices():
        for component in support_for(profile, "qlora", "nf4", "adamw_8bit", "transformers", "llama"):
            assert component.source
            assert component.supported or component.note


@pytest.mark.parametrize(
    ("device_id", "masked", "kernel"),
    [
        ("nvidia-rtx-4090-24gb", True, "fused"),
        ("apple-m2-ultra", False, "math"),
        ("intel-arc-a770-16gb", False, "fused"),
        ("intel-arc-a770-16gb", True, "math"),
        ("amd-rx-6900-xt-16gb", False, "math"),
    ],
)
def test_the_kernel_is_what_the_device_really_runs(device_id: str, masked: bool, kernel: str) -> None:
    assert attention_kernel(device(device_id), "sdpa", masked=masked)[0] == kernel


def test_eager_is_eager_everywhere() -> None:
    assert attention_kernel(device("apple-m2-ultra"), "eager", masked=False)[0] == "eager"
