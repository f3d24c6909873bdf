"""Real training jobs under a memory cap: which fit, and which run out? `python -m benchmarks.over_a_cap FILE`

Each job runs as the worker would run it (`app.jobs.launch`): a process of its own whose allocations fail beyond the
cap (RLIMIT_DATA, from its resident size after the imports on) and that is ended when it is seen above it. The caps are
shares of what the estimate requires, in whole 10 MiB, so that half of them should run and half should not. FILE gets
one document of the corpus for each job, `pending`; of the machine in its request the cap is what is usable.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app.jobs.launch import Launch, Outcome, run
from app.jobs.spec import JobSpec
from benchmarks.calibration.__main__ import processor
from benchmarks.calibration.cases import BFLOAT16, FLOAT32, Case
from planner.contract import EstimateRequest, ModelReference
from planner.corpus import MeasuredRun, from_measurement
from planner.corpus.from_measurement import portable
from planner.estimate import estimate
from planner.hardware import Machine
from planner.hardware.machine import system_share_bytes
from planner.measurement import Measurement
from planner.units import GIB, MIB

PUBLISHER = "trainfit, CPU"
SOURCE = "python -m benchmarks.over_a_cap"
DATE = datetime.now(UTC).strftime("%Y-%m-%d")
SHARES = (0.70, 0.80, 0.90, 0.97, 1.03, 1.10, 1.22, 1.30)
STEP = 10 * MIB
CASES = [
    Case("mistral-30m", "full", FLOAT32, 2, 512),
    Case("llama-58m", "full", BFLOAT16, 2, 512, "full"),
    Case("gemma3-66m", "lora", BFLOAT16, 1, 1024),
    Case("llama-134m", "lora", FLOAT32, 1, 512),
]


def main(file: Path) -> None:
    """Run every case under every cap."""
    with file.open("a", encoding="utf-8") as out:
        for case in CASES:
            for share in SHARES:
                document = job(case, share)
                out.write(document.model_dump_json(exclude_unset=True) + "\n")
                out.flush()
                print(f"{document.id}: {document.outcome}", flush=True)


def job(case: Case, share: float) -> MeasuredRun:
    """One job under a cap of this share of what is predicted, as a document."""
    machine = processor()
    answer = estimate(case.request, config=case.config, machine=machine, advice=False)
    assert answer.memory is not None
    cap_bytes = round(share * answer.memory.device.required_bytes / STEP) * STEP
    return _document(case, replace(machine, memory_total_bytes=_total_of(cap_bytes)), cap_bytes, _run(case, cap_bytes))


def _total_of(usable_bytes: int) -> int:
    """The memory of a host on which a process may take this much; the opposite of `system_share_bytes`."""
    total_bytes = 2 * usable_bytes if usable_bytes <= 2 * GIB else usable_bytes + 2 * GIB
    assert total_bytes - system_share_bytes(total_bytes) == usable_bytes
    return total_bytes


def _run(case: Case, cap_bytes: int) -> Outcome:
    spec = JobSpec(
        kind="measure", request=case.request, config=case.config, steps=3, device_class="cpu/this-machine",
        device_id="this-machine", threads=1, deadline_seconds=180, memory_cap_bytes=cap_bytes,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as directory:
        launch = Launch(
            spec=spec, directory=Path(directory) / "job", mark="over-a-cap", worker_mark="over-a-cap",
            memory_cap_bytes=cap_bytes,
        )  # fmt: skip
        return run(launch, lambda _: "go_on")


def _document(case: Case, machine: Machine, cap_bytes: int, outcome: Outcome) -> MeasuredRun:
    """What became of the job. Its speed is left out: other work shares the cores."""
    name = f"cap-{case.name.replace(' ', '-')}-{cap_bytes // MIB}mib"
    result = outcome.result
    if result is not None and result.measurement is not None:
        found = from_measurement(
            Measurement.model_validate(result.measurement), document_id=name, publisher=PUBLISHER, date=DATE,
            machine=machine, config=case.config, stack=_versions(result.stack),
        )  # fmt: skip
        return found.model_copy(update={"tokens_per_second": None, "source": SOURCE})
    if outcome.kind != "out_of_memory" and (result is None or result.failure_kind != "oom_host"):
        raise RuntimeError(f"{name}: neither ran nor ran out of memory: {outcome}")
    request = EstimateRequest(
        model=ModelReference(config=case.config), machine=portable(case.request.machine, machine), run=case.request.run
    )
    note = outcome.detail or (result.message if result is not None else "")
    return MeasuredRun(
        id=name, publisher=PUBLISHER, source=SOURCE, date_or_commit=DATE, request=request, outcome="out_of_memory",
        note=note,
    )  # fmt: skip


def _versions(stack: dict[str, Any]) -> dict[str, str]:
    packages = stack.get("packages", stack)
    return {name: str(packages[name]) for name in ("torch", "transformers", "peft") if name in packages}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
