from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from planner.contract import Reason
from planner.hardware import all_devices, device, facts
from planner.hardware.profile import DeviceProfile
from planner.support import Needs, all_rows, attention_kernel, support_for, support_warnings, unsupported_reason
from planner.support.rows import Works

PLAIN = Needs("lora", None, "adamw", "transformers", "llama", "sdpa", "full_logits")
METHODS = (("full", None), ("lora", None), ("qlora", "nf4"), ("qlora", "int8"))


def of_architecture(architecture: str) -> DeviceProfile:
    return next(item for item in all_devices() if item.architecture == architecture)


def reason(profile: DeviceProfile, **changes: object) -> Reason | None:
    return unsupported_reason(support_for(profile, replace(PLAIN, **changes)))  # pyright: ignore[reportArgumentType]


# -- the data -------------------------------------------------------------------------------------------------------


def test_every_row_has_a_source_a_date_and_known_words() -> None:
    rows = all_rows()
    assert len(rows) >= 120
    assert len({row.id for row in rows}) == len(rows)
    for row in rows:
        assert row.source, row.id
        assert row.as_of.startswith("20"), row.id
        assert row.status in {"works", "partial", "prototype", "retired", "no"}, row.id
        assert row.confidence in {"high", "medium", "low"}, row.id
        assert set(row.features.values()) <= set(get_args(Works)), row.id


def test_rows_speak_of_architectures_that_the_device_catalogue_has() -> None:
    known = {*facts.architectures(), "*"}
    for row in all_rows():
        assert set(row.architectures) <= known, row.id
        assert bool(row.features) == bool(row.architectures), row.id


def test_the_rows_on_fused_attention_agree_with_the_device_catalogue() -> None:
    for row in all_rows():
        answer = row.features.get("fused attention")
        for architecture in row.architectures if answer else ():
            fused = facts.supports(architecture).fused_attention_backward
            assert (answer == "no") == (fused == "no"), (row.id, architecture)


# -- plans ----------------------------------------------------------------------------------------------------------


def test_lora_with_adamw_runs_on_every_device_of_the_catalogue() -> None:
    for item in all_devices():
        assert reason(item) is None, item.id


@pytest.mark.parametrize("architecture", ["tpu-v5e", "trn1", "inf2"])
@pytest.mark.parametrize("scheme", ["nf4", "int8"])
def test_quantised_weights_do_not_run_on_tpus_and_trainium(architecture: str, scheme: str) -> None:
    found = reason(of_architecture(architecture), method="qlora", scheme=scheme)
    assert found is not None
    assert found.code == "unsupported:quantised base"
    assert found.field == "run.quantization.scheme"
    assert "lora" in found.message


@pytest.mark.parametrize("architecture", ["sm_60", "sm_89", "gfx1100", "xe2-hpg", "x86-avx2", "apple-m3", "gfx942"])
def test_qlora_is_no_longer_of_nvidia_only(architecture: str) -> None:
    assert reason(of_architecture(architecture), method="qlora", scheme="nf4") is None


def test_int8_needs_turing() -> None:
    found = reason(of_architecture("sm_70"), method="qlora", scheme="int8")
    assert found is not None
    assert "nf4" in found.message


@pytest.mark.parametrize("optimizer", ["adamw_8bit", "paged_adamw", "paged_adamw_8bit", "lion"])
def test_bitsandbytes_optimizers_do_not_run_on_apple(optimizer: str) -> None:
    found = reason(device("apple-m4-pro"), optimizer=optimizer)
    assert found is not None
    assert found.field == "run.optimizer"
    assert reason(device("nvidia-rtx-4090-24gb"), optimizer=optimizer) is None


def test_nobody_trains_longcat_flash_and_the_reason_says_what_instead() -> None:
    h100 = device("nvidia-h100-sxm-80gb")
    found = reason(h100, model_type="longcat_flash")
    assert found is not None
    assert (found.code, found.field) == ("unsupported:model", "model")
    assert "DeepSeek-V3" in found.message
    assert support_for(h100, replace(PLAIN, model_type="longcat_flash"))[0].source


def test_a_dtype_that_the_device_lacks_is_refused_and_an_emulated_one_is_not() -> None:
    t4 = device("nvidia-t4-16gb")
    found = reason(of_architecture("tpu-v5e"), compute_dtype="float16")
    assert found is not None
    assert found.code == "unsupported:compute dtype"
    assert "bfloat16" in found.message
    assert reason(t4, compute_dtype="bfloat16") is None
    assert reason(t4, compute_dtype="float8") is not None


def test_several_apple_devices_do_not_train_together() -> None:
    assert reason(device("apple-m4-pro"), data_parallel=2) is not None
    assert reason(device("nvidia-rtx-4090-24gb"), data_parallel=2) is None


def test_the_fused_loss_needs_triton() -> None:
    assert reason(device("apple-m4-pro"), loss="fused_linear") is not None
    assert reason(device("amd-rx-7900-xtx-24gb"), loss="fused_linear") is None


def test_torchtune_runs_and_the_note_says_that_it_ended() -> None:
    software = support_for(device("nvidia-rtx-4090-24gb"), replace(PLAIN, framework="torchtune"))
    assert all(item.supported for item in software)
    assert any("torchtune has ended" in text for text in support_warnings(software))


def test_what_no_source_speaks_of_is_a_warning_and_not_a_refusal() -> None:
    unknown = of_architecture("inf2")
    software = support_for(unknown, PLAIN)
    assert all(item.supported and not item.source for item in software)
    assert len(support_warnings(software)) == len(software)
    assert reason(unknown, framework="somebodys-trainer") is None


def test_every_statement_names_its_source() -> None:
    for item in all_devices():
        for method, scheme in METHODS:
            needs = replace(PLAIN, method=method, scheme=scheme, optimizer="adamw_8bit", attention="flash_attention")
            for said in support_for(item, needs):
                assert said.source or said.note.startswith("no source"), (item.id, said.component)
                assert said.supported or said.note


# -- attention ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("architecture", "requested", "masked", "kernel"),
    [
        ("sm_89", "sdpa", True, "fused"),
        ("sm_89", "flash_attention", False, "flash"),
        ("sm_75", "sdpa", False, "fused"),
        ("sm_75", "flash_attention", False, "fused"),
        ("sm_89", "eager", False, "eager"),
        ("apple-m3", "sdpa", False, "math"),
        ("apple-m3", "flash_attention", False, "math"),
        ("gfx1030", "sdpa", False, "math"),
        ("gfx908", "sdpa", False, "math"),
        ("gfx942", "sdpa", True, "fused"),
        ("gfx1101", "sdpa", False, "math"),
        ("gfx1101", "flash_attention", False, "flash"),
        ("xe2-hpg", "sdpa", False, "fused"),
        ("xe2-hpg", "sdpa", True, "math"),
        ("x86-avx2", "sdpa", False, "fused"),
    ],
)
def test_the_kernel_that_the_device_really_runs(architecture: str, requested: str, masked: bool, kernel: str) -> None:
    chosen, why = attention_kernel(of_architecture(architecture), requested, masked=masked)
    assert chosen == kernel
    assert why


def test_flash_attention_on_turing_is_refused_when_asked_for() -> None:
    t4 = device("nvidia-t4-16gb")
    found = reason(t4, attention="flash_attention")
    assert found is not None
    assert found.field == "run.attention"
    assert reason(t4) is None
    assert "planned as sdpa" in attention_kernel(t4, "flash_attention", masked=False)[1]
