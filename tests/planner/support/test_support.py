from __future__ import annotations

from typing import get_args

import pytest

from planner.hardware import facts
from planner.hardware.devices import all_devices, device
from planner.hardware.profile import DeviceProfile
from planner.support import attention_kernel, support_for, support_warnings, unsupported_reason
from planner.support.rows import Answer, support_rows

PLAIN = ("lora", None, "adamw", "transformers", "llama")
METHODS = (("full", None), ("lora", None), ("qlora", "nf4"), ("qlora", "int8"))


def of_architecture(architecture: str) -> DeviceProfile:
    return next(item for item in all_devices() if item.architecture == architecture)


# -- the data -------------------------------------------------------------------------------------------------------


def test_every_row_has_a_source_a_date_and_known_words() -> None:
    rows = support_rows()
    assert len(rows) >= 120
    assert len({row.id for row in rows}) == len(rows)
    for row in rows:
        assert row.sources, row.id
        assert row.as_of.startswith("20"), row.id
        assert row.status in {"works", "partial", "prototype", "retired", "no"}, row.id
        assert row.confidence in {"high", "medium", "low"}, row.id
        assert set(row.features.values()) <= set(get_args(Answer)), row.id


def test_rows_speak_of_architectures_that_the_device_catalogue_has() -> None:
    known = {*facts.architectures(), "*"}
    for row in support_rows():
        assert set(row.architectures) <= known, row.id
        assert bool(row.features) == bool(row.architectures), row.id


def test_the_rows_on_fused_attention_agree_with_the_device_catalogue() -> None:
    for row in support_rows():
        answer = row.features.get("fused attention")
        for architecture in row.architectures if answer else ():
            fused = facts.supports(architecture).fused_attention_backward
            assert (answer == "no") == (fused == "no"), (row.id, architecture)


# -- plans ----------------------------------------------------------------------------------------------------------


def test_lora_with_adamw_runs_on_every_device_of_the_catalogue() -> None:
    for item in all_devices():
        assert unsupported_reason(item, *PLAIN) is None, item.id


@pytest.mark.parametrize("architecture", ["tpu-v5e", "trn1", "inf2"])
@pytest.mark.parametrize("scheme", ["nf4", "int8"])
def test_quantised_weights_do_not_run_on_tpus_and_trainium(architecture: str, scheme: str) -> None:
    reason = unsupported_reason(of_architecture(architecture), "qlora", scheme, "adamw", "transformers", "llama")
    assert reason is not None
    assert reason.code == "software_unsupported"
    assert reason.field == "run.quantization.scheme"
    assert "lora" in reason.message


@pytest.mark.parametrize("architecture", ["sm_60", "sm_89", "gfx1100", "xe2-hpg", "x86-avx2", "apple-m3", "gfx942"])
def test_qlora_is_no_longer_of_nvidia_only(architecture: str) -> None:
    assert unsupported_reason(of_architecture(architecture), "qlora", "nf4", "adamw", "trl", "llama") is None


def test_int8_needs_turing() -> None:
    reason = unsupported_reason(of_architecture("sm_70"), "qlora", "int8", "adamw", "transformers", "llama")
    assert reason is not None
    assert "nf4" in reason.message


@pytest.mark.parametrize("optimizer", ["adamw_8bit", "paged_adamw", "paged_adamw_8bit"])
def test_bitsandbytes_optimizers_do_not_run_on_apple(optimizer: str) -> None:
    reason = unsupported_reason(device("apple-m4-pro"), "lora", None, optimizer, "transformers", "llama")
    assert reason is not None
    assert reason.field == "run.optimizer"
    assert unsupported_reason(device("nvidia-rtx-4090-24gb"), "lora", None, optimizer, "transformers", "llama") is None


def test_nobody_trains_longcat_flash_and_the_reason_says_what_instead() -> None:
    h100 = device("nvidia-h100-sxm-80gb")
    reason = unsupported_reason(h100, "lora", None, "adamw", "transformers", "longcat_flash")
    assert reason is not None
    assert reason.field == "model"
    assert "DeepSeek-V3" in reason.message
    software = support_for(h100, "lora", None, "adamw", "transformers", "longcat_flash")
    assert [item.supported for item in software] == [True, True, False]
    assert software[-1].source


def test_a_dtype_that_the_device_lacks_is_refused_and_an_emulated_one_is_not() -> None:
    tpu, t4 = device("google-tpu-v5e"), device("nvidia-t4-16gb")
    reason = unsupported_reason(tpu, *PLAIN, compute_dtype="float16")
    assert reason is not None
    assert reason.code == "dtype_unsupported"
    assert "bfloat16" in reason.message
    assert unsupported_reason(t4, *PLAIN, compute_dtype="bfloat16") is None
    assert unsupported_reason(t4, *PLAIN, compute_dtype="float8") is not None
    assert unsupported_reason(t4, *PLAIN, compute_dtype="float32") is None


def test_several_apple_devices_do_not_train_together() -> None:
    assert unsupported_reason(device("apple-m4-pro"), *PLAIN, data_parallel=2) is not None
    assert unsupported_reason(device("nvidia-rtx-4090-24gb"), *PLAIN, data_parallel=2) is None


def test_torchtune_runs_and_the_note_says_that_it_ended() -> None:
    software = support_for(device("nvidia-rtx-4090-24gb"), "lora", None, "adamw", "torchtune", "llama")
    assert all(item.supported for item in software)
    assert any("torchtune" in text and "maintained" in text for text in support_warnings(software))


def test_what_no_source_speaks_of_is_a_warning_and_not_a_refusal() -> None:
    unknown = next(item for item in all_devices() if item.architecture == "inf2")
    software = support_for(unknown, *PLAIN)
    assert all(item.supported and not item.source for item in software)
    assert len(support_warnings(software)) == len(software)
    assert unsupported_reason(unknown, "lora", None, "adamw", "somebodys-trainer", "llama") is None


def test_every_statement_names_its_source() -> None:
    for item in all_devices():
        for method, scheme in METHODS:
            for said in support_for(item, method, scheme, "adamw_8bit", "transformers", "llama"):
                assert said.source or said.note.startswith("no source"), (item.id, said.component)


# -- attention ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("architecture", "requested", "masked", "kernel"),
    [
        ("sm_89", "sdpa", True, "fused"),
        ("sm_89", "flash_attention", False, "fused"),
        ("sm_75", "sdpa", False, "fused"),
        ("sm_75", "flash_attention", False, "fused"),
        ("sm_89", "eager", False, "eager"),
        ("apple-m3", "sdpa", False, "math"),
        ("apple-m3", "flash_attention", False, "math"),
        ("gfx1030", "sdpa", False, "math"),
        ("gfx908", "sdpa", False, "math"),
        ("gfx942", "sdpa", True, "fused"),
        ("gfx1101", "sdpa", False, "math"),
        ("gfx1101", "flash_attention", False, "fused"),
        ("xe2-hpg", "sdpa", False, "fused"),
        ("xe2-hpg", "sdpa", True, "math"),
        ("x86-avx2", "sdpa", False, "fused"),
    ],
)
def test_the_kernel_that_the_device_really_runs(architecture: str, requested: str, masked: bool, kernel: str) -> None:
    chosen, why = attention_kernel(of_architecture(architecture), requested, masked)
    assert chosen == kernel
    assert why


def test_flash_attention_on_turing_is_refused_when_asked_for() -> None:
    t4 = device("nvidia-t4-16gb")
    reason = unsupported_reason(t4, *PLAIN, attention="flash_attention")
    assert reason is not None
    assert reason.field == "run.attention"
    assert unsupported_reason(t4, *PLAIN, attention="sdpa") is None
    assert "planned as sdpa" in attention_kernel(t4, "flash_attention", masked=False)[1]
