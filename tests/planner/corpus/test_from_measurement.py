"""A measuring job's document becomes one of the corpus that any installation can read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from planner.accuracy.prediction import predict
from planner.catalog.models import model
from planner.contract import EstimateRequest
from planner.corpus import from_measurement, read_document
from planner.estimate import estimate
from planner.hardware import Machine, resolve_machine
from planner.measurement import Compared, Depth, Measurement

GPT2 = "openai-community/gpt2"


def request(device: str) -> EstimateRequest:
    return EstimateRequest.model_validate(
        {"model": {"id": GPT2}, "machine": {"device": device}, "run": {"method": "full", "sequence_length": 256}}
    )


def measurement(device: str, out_of_memory: str | None = None) -> Measurement:
    rows = [
        Compared(name="tokens_per_second", unit="tokens/s", predicted=100, measured=120.5),
        Compared(name="peak_allocated_bytes", unit="bytes", predicted=1e9, measured=2**30),
        Compared(name="resident_peak_bytes", unit="bytes", predicted=1e9, measured=2**31),
    ]
    return Measurement(
        request=request(device), configuration={}, model={}, device="a processor", device_class="cpu", device_count=1,
        threads=1, depth=Depth(layers=12, built=[2, 4]), steps=None, rows=[] if out_of_memory else rows, phases=[],
        terms=[], estimator_version="1", out_of_memory=out_of_memory,
    )  # fmt: skip


def this_machine() -> Machine:
    known = resolve_machine(request("amd-epyc-9654").machine)
    return replace(known, device=replace(known.device, id="this-cpu"), is_this_machine=True)


def test_this_machine_becomes_its_figures() -> None:
    run = from_measurement(
        measurement("this-machine"), document_id="job-1", publisher="me", date="2026-11-24", machine=this_machine()
    )
    assert read_document(run.model_dump_json()) == run
    assert run.status == "pending"
    assert {peak.kind: peak.bytes for peak in run.peaks} == {"allocated": 2**30, "resident": 2**31}
    assert run.tokens_per_second == 120.5
    assert run.request.machine.device != "this-machine"
    assert "2, 4" in run.note


def test_the_figures_give_the_same_estimate() -> None:
    machine, config = this_machine(), model(GPT2).config
    run = from_measurement(
        measurement("this-machine"), document_id="j", publisher="me", date="", machine=machine, config=config
    )
    here = estimate(request("this-machine"), config=config, machine=machine, advice=False)
    assert here.memory is not None
    assert predict(run).bytes_of("allocated") == here.memory.device.peak_allocated_bytes


def test_memory_that_ran_out_is_an_outcome() -> None:
    run = from_measurement(
        measurement("nvidia-rtx-4090-24gb", "warm_up"),
        document_id="j",
        publisher="me",
        date="",
        machine=resolve_machine(request("nvidia-rtx-4090-24gb").machine),
    )
    assert run.outcome == "out_of_memory"
    assert run.request.machine.device == "nvidia-rtx-4090-24gb"
    assert "warm_up" in run.note


def test_what_another_processor_measured_is_not_filed_as_the_plans() -> None:
    ran = measurement("amd-epyc-9654").model_copy(update={"planned_device": "EPYC 9654", "device": "Ryzen 5"})
    with pytest.raises(ValueError, match="Ryzen 5 ran a plan for EPYC 9654"):
        from_measurement(ran, document_id="j", publisher="me", date="", machine=this_machine())
