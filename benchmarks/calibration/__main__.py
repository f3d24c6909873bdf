"""`python -m benchmarks.calibration [calibrate | measure | report] ...`: is a calibrated time right?

    calibrate FILE            calibrates this machine, one thread, by the processor's clock, and writes the document
    measure FILE [SECONDS]    runs the cases that FILE does not hold yet, for SECONDS in all, a line for each
    report CALIBRATION FILE   predicts each case by the calibration and prints every row

One thread and the processor's clock, because other work shares the cores of the machine that this is developed on: time
that others took is not counted. Each case is built and timed twice, in a process of its own; what the second says
over the first is the noise that no prediction can be better than.
"""

from __future__ import annotations

import importlib
import json
import os
import statistics
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app.detect import detect, to_machines
from benchmarks.calibration.cases import CASES, Case
from planner.estimate import sha256_of, spec_of
from planner.evaluation import evaluate
from planner.hardware import Machine, fingerprint_of
from planner.hardware.calibration import PHASES, Calibration

LONGEST_CASE = 45.0
HEAD = (
    "| model and plan | parameters | measured s | again | predicted s | error | forward | backward | optimizer |\n"
    "|---|--:|--:|--:|--:|--:|--:|--:|--:|"
)


def processor() -> Machine:
    """This machine's processor."""
    return next(machine for machine in to_machines(detect()) if machine.device.kind == "cpu")


def calibrate(file: Path) -> None:
    """One calibration."""
    from planner.calibration.calibrate import Identity
    from planner.calibration.calibrate import calibrate as run
    from planner.calibration.device import Device
    from planner.calibration.stack import stack_of
    from planner.calibration.threads import use_threads

    class Said:
        def point(self, number: int, of: int, seconds: float, label: str) -> None:
            print(f"{number:4d} of {of:4d} {seconds:8.3f} s  {label}", flush=True)

    use_threads(1)
    device, machine = Device("cpu", clock="processor"), processor()
    date = datetime.now(UTC).isoformat()
    identity = Identity("benchmark", date, machine.device.id, "cpu", fingerprint_of(machine), 1, stack_of(device))
    found = run(identity, machine, device, Said())
    file.write_text(found.model_dump_json(indent=1), encoding="utf-8")
    print(f"{found.seconds:.0f} s; interval {found.interval}")


def take_one(case: Case) -> dict[str, Any]:
    """Builds and times one case in this process: its parameters, and its seconds by phase."""
    from planner.calibration.calibrate import run
    from planner.calibration.device import Device
    from planner.calibration.models import Example
    from planner.calibration.threads import use_threads

    use_threads(1)
    example = Example(case.name, case.config, case.request.run.model_dump(exclude_unset=True))
    taken = run(example, processor(), Device("cpu", clock="processor")).taken
    return {"parameters": taken.parameters, "phases": taken.phases, "steps": taken.step_seconds}


def measure(file: Path, seconds: float) -> None:
    """The cases that are not in the file yet; each twice, in children of this process that has the libraries."""
    importlib.import_module("planner.calibration.calibrate")  # loads torch once, before the children

    done = {row["name"] for row in rows(file)}
    ends = time.monotonic() + seconds
    for case in CASES:
        if case.name in done or time.monotonic() + LONGEST_CASE > ends:
            continue
        found = [_in_a_child(case) for _ in range(2)]
        with file.open("a", encoding="utf-8") as out:
            out.write(json.dumps({"name": case.name, "parameters": found[0]["parameters"], "runs": found}) + "\n")
        print(case.name, [round(total(run["phases"]), 4) for run in found], flush=True)
    print(f"{len(rows(file))} of {len(CASES)} cases are measured")


def _in_a_child(case: Case) -> dict[str, Any]:
    """What `take_one` finds in a fork of this process, so that nothing of a case is left for the next."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        with os.fdopen(writer, "w", encoding="utf-8") as out:
            json.dump(take_one(case), out)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as said:
        text = said.read()
    _, status = os.waitpid(child, 0)
    if status:
        raise SystemExit(f"{case.name} ended with status {status}")
    return json.loads(text)


def rows(file: Path) -> list[dict[str, Any]]:
    """What was measured before."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def total(phases: dict[str, float]) -> float:
    """Seconds of a step."""
    return sum(phases[name] for name in PHASES)


def report(calibration_file: Path, file: Path) -> None:
    """Every row, then the errors and the noise."""
    calibration = Calibration.model_validate_json(calibration_file.read_text(encoding="utf-8"))
    found = {row["name"]: row for row in rows(file)}
    errors: list[float] = []
    noises: list[float] = []
    inside = 0
    print(HEAD)
    for case in CASES:
        if case.name not in found:
            continue
        row = found[case.name]
        said = predicted(case, calibration)
        first, second = (run["phases"] for run in row["runs"])
        seconds = (total(first) + total(second)) / 2
        errors.append(total(said) / seconds - 1)
        noises.append(total(second) / total(first) - 1)
        inside += calibration.interval[0] <= seconds / total(said) <= calibration.interval[1]
        parts = [f"{2 * said[name] / (first[name] + second[name]):.2f}" for name in PHASES]
        print(
            f"| {case.name} | {row['parameters'] / 1e6:.1f} M | {total(first):.3f} | {noises[-1]:+.1%} "
            f"| {total(said):.3f} | {errors[-1]:+.1%} | {' | '.join(parts)} |"
        )
    print(_summary("error", errors))
    print(_summary("noise (second build over first)", noises))
    print(f"inside the interval {calibration.interval}: {inside} of {len(errors)}")


def predicted(case: Case, calibration: Calibration) -> dict[str, float]:
    """Seconds of each phase by the calibration, as an answer has them."""
    from dataclasses import replace

    machine = replace(processor(), calibration=calibration)
    time = evaluate(case.request, spec_of(case.config, sha256_of(case.config)), machine).time
    assert time is not None
    return {name: float(time.phases[name]) for name in PHASES}


def _summary(name: str, values: list[float]) -> str:
    sizes = sorted(abs(value) for value in values)
    high = statistics.quantiles(sizes, n=20, method="inclusive")[-1]
    return (
        f"{name}: n {len(sizes)}, median size {statistics.median(sizes):.1%}, 95th percentile {high:.1%}, "
        f"largest {sizes[-1]:.1%}, median signed {statistics.median(values):+.1%}"
    )


def main(arguments: list[str]) -> None:
    """The command."""
    match arguments:
        case ["calibrate", file]:
            calibrate(Path(file))
        case ["measure", file]:
            measure(Path(file), 270.0)
        case ["measure", file, seconds]:
            measure(Path(file), float(seconds))
        case ["report", calibration, file]:
            report(Path(calibration), Path(file))
        case _:
            print(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
