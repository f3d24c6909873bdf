"""`python -m benchmarks.runner [speed | memory | overhead]`: is the measuring job as good as a plain loop?

speed      tokens/s of the job's own step loop over those of a plain PyTorch loop of the same model: 9 alternating pairs
memory     live bytes and resident peak that the job measures over those that are predicted, a process a case
overhead   from the start of the job's process to its first step, less imports and building the model

One thread. Speed is told by the processor's clock, because other work may share the cores.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from app.jobs.spec import JobResult, JobSpec
from benchmarks.calibration.cases import BFLOAT16, FLOAT32, Case
from planner.measurement import Measurement

HEAD = "| model and plan | live MiB | predicted | off | resident MiB | predicted | off |\n|---|--:|--:|--:|--:|--:|--:|"
ROOT = Path(__file__).parents[2]
PAIRS = 9
STEPS_A_SIDE = 6
SPEED = Case("llama-5m", "full", FLOAT32, 2, 256)
MEMORY = [
    Case("llama-5m", "full", FLOAT32, 8, 256),
    Case("qwen3-12m", "lora", FLOAT32, 2, 512),
    Case("mistral-30m", "full", BFLOAT16, 2, 512, "full"),
    Case("llama-58m", "full", FLOAT32, 1, 512),
    Case("gpt2-43m", "lora", BFLOAT16, 2, 512),
    Case("qwen3-moe-28m", "full", FLOAT32, 1, 512),
]


def speed() -> None:
    """Alternating pairs in one process: a few steps of each, the same model and batch."""
    import torch

    from planner.calibration.build import build_model, settings_for
    from planner.calibration.device import Device
    from planner.calibration.measure import Taken, Task, time_steps
    from planner.calibration.threads import use_threads
    from planner.calibration.training import PhaseClock, RealStep
    from planner.estimate import sha256_of, spec_of
    from planner.evaluation import evaluate
    from planner.verify.coverage import buildable

    use_threads(1)
    device = Device("cpu", clock="processor")
    case = SPEED
    plan = evaluate(case.request, spec_of(case.config, sha256_of(case.config)), _processor()).plan
    settings = settings_for(plan, case.request.run, None)
    clock = PhaseClock(device)
    step = RealStep(build_model(buildable(case.config), settings, device), settings, clock, device)
    model: Any = step.model
    optimizer: Any = torch.optim.AdamW(model.parameters(), lr=1e-3, foreach=False)
    ids = step.batches[0]["input_ids"]

    def plain() -> None:
        """What a guide tells one to write."""
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    def plain_seconds() -> float:
        began = device.now()
        for _ in range(STEPS_A_SIDE):
            plain()
        return (device.now() - began) / STEPS_A_SIDE

    def job_seconds() -> float:
        taken = Taken()
        task = Task(case.config, settings, device, STEPS_A_SIDE, 1e9)
        began = device.now()
        time_steps(step, clock, task, taken, None)
        return (device.now() - began) / len(taken.step_seconds)

    for work in (plain_seconds, job_seconds):
        work()
    ratios: list[float] = []
    for number in range(PAIRS):
        if number % 2:
            ours, theirs = job_seconds(), plain_seconds()
        else:
            theirs, ours = plain_seconds(), job_seconds()
        ratios.append(theirs / ours)
        print(f"pair {number + 1}: plain {theirs:.4f} s, job {ours:.4f} s, {theirs / ours:.3f}", flush=True)
    print(f"tokens/s of the job over the plain loop: median of {PAIRS} pairs {statistics.median(ratios):.3f}")


def _processor() -> Any:
    from benchmarks.calibration.__main__ import processor

    return processor()


def _spec(case: Case, steps: int) -> JobSpec:
    return JobSpec(
        kind="measure",
        request=case.request,
        config=case.config,
        steps=steps,
        device_class="cpu/this-machine",
        device_id="this-machine",
        threads=1,
        deadline_seconds=60,
    )


def _run(case: Case, steps: int, directory: Path) -> tuple[Measurement, list[tuple[float, dict[str, Any]]]]:
    """The measurement, and the events with the seconds since the process was started."""
    file = directory / "spec.json"
    file.write_text(_spec(case, steps).model_dump_json(), encoding="utf-8")
    began = time.perf_counter()
    command = [sys.executable, "-m", "app.jobs.runner", str(file), str(directory)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        events = [(time.perf_counter() - began, json.loads(line)) for line in process.stdout]
    result = JobResult.model_validate_json((directory / "result.json").read_text(encoding="utf-8"))
    assert result.measurement is not None, result.message
    return Measurement.model_validate(result.measurement), events


def memory() -> None:
    """Predicted over measured, live and resident."""
    print(HEAD)
    for case in MEMORY:
        with tempfile.TemporaryDirectory() as directory:
            found, _ = _run(case, 1, Path(directory))
        cells: list[str] = []
        for name in ("peak_allocated_bytes", "resident_peak_bytes"):
            row = found.row(name)
            assert row is not None
            assert row.predicted is not None
            assert row.measured
            ratio = row.predicted / row.measured
            cells += [f"{row.measured / 2**20:.0f}", f"{row.predicted / 2**20:.0f}", f"{ratio - 1:+.2%}"]
        print(f"| {case.name} | {' | '.join(cells)} |", flush=True)


def overhead() -> None:
    """What of a job is neither import nor build nor training: the process's start, reading, confining, predicting."""
    with tempfile.TemporaryDirectory() as directory:
        _, events = _run(SPEED, 1, Path(directory))
    phases = {event["phase"]: at for at, event in events if event["event"] == "phase"}
    for name, at in phases.items():
        print(f"{name:8} begins after {at:.2f} s")
    print(f"from the process's start to its first word: {phases['import']:.2f} s")


def main(arguments: list[str]) -> None:
    """The command."""
    chosen = arguments or ["speed", "memory", "overhead"]
    for name in chosen:
        {"speed": speed, "memory": memory, "overhead": overhead}[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
