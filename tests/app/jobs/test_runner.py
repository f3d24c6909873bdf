"""The process of a job, started as the engine starts it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from pydantic import TypeAdapter

from app.jobs.runner.run import run
from app.jobs.spec import JobResult, JobSpec, PhaseEvent, SampleEvent
from planner.contract import MachineRequest
from planner.hardware import Machine, resolve_machine
from planner.measurement import Measurement

pytestmark = pytest.mark.slow

CONFIG: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 8,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 256,
}  # fmt: skip
RUN: dict[str, Any] = {"method": "full", "sequence_length": 32, "micro_batch_size": 2}


def spec(run: dict[str, Any] | None = None, config: dict[str, Any] = CONFIG, **changes: Any) -> JobSpec:
    request = {"model": {"config": config}, "machine": {"device": "this-machine"}, "run": RUN | (run or {})}
    fields = {"kind": "measure", "device_class": "cpu/this-machine", "device_id": "this-machine", "threads": 1}
    return JobSpec.model_validate({**fields, "request": request, "config": config, "deadline_seconds": 60, **changes})


def start(job: JobSpec, directory: Path) -> "subprocess.Popen[str]":
    file = directory / "spec.json"
    file.write_text(job.model_dump_json())
    command = [sys.executable, "-m", "app.jobs.runner", str(file), str(directory / "out")]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(job: JobSpec, directory: Path) -> tuple[JobResult, list[dict[str, Any]]]:
    process = start(job, directory)
    said, errors = process.communicate(timeout=170)
    assert process.returncode == 0, errors
    result = JobResult.model_validate_json((directory / "out" / "result.json").read_text())
    return result, [json.loads(line) for line in said.splitlines()]


def measurement(result: JobResult) -> Measurement:
    assert result.measurement is not None, result.message
    return Measurement.model_validate(result.measurement)


def test_a_plan_is_measured_beside_what_was_predicted_of_it(tmp_path: Path):
    result, events = finished(spec(), tmp_path)
    assert result.outcome == "succeeded", result.message
    phases = [PhaseEvent.model_validate(event).phase for event in events if event["event"] == "phase"]
    assert phases == ["import", "build", "warm_up", "measure", "write"]
    samples = [SampleEvent.model_validate(event) for event in events if event["event"] == "sample"]
    found = measurement(result)
    assert found.steps is not None
    assert [sample.step for sample in samples] == list(range(1, len(found.steps.seconds) + 1))
    assert sum(phase.measured or 0 for phase in found.phases) == pytest.approx(found.steps.median, rel=0.5)
    live = found.row("peak_allocated_bytes")
    assert live is not None
    assert live.ratio == pytest.approx(1, abs=0.01)
    assert {term.name for term in found.terms} >= {"weights", "optimizer_states", "activations", "logits_and_loss"}
    for term in found.terms:
        assert term.measured == pytest.approx(term.predicted, abs=2**14), term.name
    assert result.stack["packages"]["torch"]
    assert not (tmp_path / "out").joinpath("result.json.tmp").exists()


def test_the_processor_that_ran_it_is_named_and_not_the_plans(tmp_path: Path):
    machine = TypeAdapter(Machine).dump_python(resolve_machine(MachineRequest(device="amd-ryzen-5950x")), mode="json")
    found = measurement(finished(spec(machine=machine, steps=1), tmp_path)[0])
    assert found.planned_device == "Ryzen 9 5950X"
    assert found.device != found.planned_device


def test_lora_with_checkpoints_and_micro_batches_runs(tmp_path: Path):
    run = {"method": "lora", "activation_checkpointing": "full", "gradient_accumulation_steps": 2}
    found = measurement(finished(spec(run, steps=2), tmp_path)[0])
    live = found.row("peak_allocated_bytes")
    assert live is not None
    assert live.ratio == pytest.approx(1, abs=0.02)


def test_fewer_layers_are_said_to_be_fewer_and_extended(tmp_path: Path):
    found = measurement(finished(spec(depth=4, steps=2), tmp_path)[0])
    assert (found.depth.layers, found.depth.built) == (8, [2, 4])
    assert not found.depth.is_whole
    live = found.row("peak_allocated_bytes")
    assert live is not None
    assert live.ratio == pytest.approx(1, abs=0.01)
    assert found.model["parameters"] == 8 * 36992 + 2 * 256 * 64 + 64  # a layer, embedding and head, the last norm


def test_two_ranks_train_together(tmp_path: Path):
    result, events = finished(spec({"gradient_accumulation_steps": 2}, device_count=2, steps=3), tmp_path)
    assert result.outcome == "succeeded", result.message
    assert len([event for event in events if event["event"] == "sample"]) == 3
    assert measurement(result).device_count == 2


def test_running_out_of_memory_is_a_result(tmp_path: Path):
    large = CONFIG | {"hidden_size": 2048, "intermediate_size": 8192, "vocab_size": 32000}
    result, _ = finished(spec(config=large, memory_cap_bytes=1200 * 2**20), tmp_path)
    assert (result.outcome, result.failure_kind) == ("failed", "oom_host")
    assert "during build" in result.message
    found = measurement(result)
    assert found.out_of_memory == "build"
    assert found.steps is None


@pytest.mark.parametrize(
    ("job", "words"),
    [
        (spec({"framework": "torchtune"}), "torchtune has its own loop"),
        (spec({"compile": True}), "torch.compile"),
        (spec(depth=1), "need at least 2 layers"),
        (JobSpec(kind="measure", device_class="cpu", device_id="this-machine"), "needs a request"),
    ],
)
def test_what_cannot_be_measured_says_why(job: JobSpec, words: str, tmp_path: Path):
    result, _ = finished(job, tmp_path)
    assert (result.outcome, result.failure_kind) == ("failed", "invalid_spec")
    assert words in result.message


def test_a_device_that_is_not_there_is_named(tmp_path: Path):
    result, _ = finished(spec(device_class="xpu/intel-arc-a770-16gb"), tmp_path)
    assert result.failure_kind == "device_error"
    assert "no xpu device" in result.message


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="parent-death signals are Linux's")
def test_no_rank_outlives_the_one_who_started_it(tmp_path: Path):
    """Kill -9 of the process in between: torchrun and its ranks sit in sessions of their own and die all the same."""
    process = start(spec(device_count=2, steps=1000), tmp_path)
    try:
        assert process.stdout is not None
        while "sample" not in process.stdout.readline():
            assert process.poll() is None
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= 3
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    ends = time.monotonic() + 5
    while any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children):
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_a_plan_is_verified_as_the_fork_server_would(tmp_path: Path):
    machine = resolve_machine(MachineRequest(device="nvidia-rtx-4090-24gb", host_memory_gib=64))
    as_json = TypeAdapter(Machine).dump_python(machine, mode="json")
    job = spec(kind="verify", machine=as_json, memory_cap_bytes=2**31)
    result, events = finished(job, tmp_path)
    assert result.outcome == "succeeded", result.message
    assert result.verification is not None
    assert result.verification["evidence"]["tier"] == "verified"
    assert [event["phase"] for event in events] == ["import", "build", "trace", "trace", "compare", "write"]
    assert events[2]["message"] == "2 of 8 layers"


def test_a_verification_that_reaches_its_cap_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> str:
        raise MemoryError

    monkeypatch.setattr("app.jobs.verification.work", full)
    file = tmp_path / "spec.json"
    file.write_text(spec(kind="verify").model_dump_json())
    assert run(file, tmp_path / "out") == 0
    result = JobResult.model_validate_json((tmp_path / "out" / "result.json").read_text())
    assert (result.outcome, result.failure_kind) == ("failed", "oom_host")
    assert result.message == "the verification reached its memory cap"
