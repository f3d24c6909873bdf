"""`python -m benchmarks.calibration [calibrate | measure | report] ...`: is a calibrated time right?

    calibrate CALIBRATION [busy]          calibrates this machine as `trainfit calibrate` does, and writes the document
    measure CALIBRATION FILE [SECONDS]    runs the cases that FILE does not hold yet, for SECONDS in all
    report CALIBRATION FILE               predicts each case by the calibration and prints every row

All cores and the wall's clock, on a machine that does nothing else. `busy` is for one that other work shares: one
thread by the processor's clock, so that time that others took is not counted. Cases run with the threads and by the
clock of the calibration, which may also be one of `GET /api/v1/calibrations/ID`. Each is built and timed twice, in
processes of its own, and again, up to four times, while the two quickest differ by a tenth: these two count. What the
second says over the first is the noise that no prediction can be better than.
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

LONGEST_CASE = 30.0
MOST_BUILDS = 4
AGREEMENT = 0.1
HEAD = (
    "| model and plan | parameters | measured s | again | predicted s | error | forward | backward | optimizer |\n"
    "|---|--:|--:|--:|--:|--:|--:|--:|--:|"
)


def processor() -> Machine:
    """This machine's processor."""
    return next(machine for machine in to_machines(detect()) if machine.device.kind == "cpu")


def calibrate(file: Path, *, busy: bool) -> None:
    """One calibration."""
    from planner.calibration.calibrate import Identity
    from planner.calibration.calibrate import calibrate as run
    from planner.calibration.device import Device
    from planner.calibration.stack import stack_of
    from planner.calibration.threads import use_threads

    class Said:
        def point(self, number: int, of: int, seconds: float, label: str) -> None:
            print(f"{number:4d} of {of:4d} {seconds:8.3f} s  {label}", flush=True)

    threads = use_threads(1 if busy else len(os.sched_getaffinity(0)))
    device, machine = Device("cpu", clock="processor" if busy else "wall"), processor()
    date = datetime.now(UTC).isoformat()
    identity = Identity("benchmark", date, machine.device.id, "cpu", fingerprint_of(machine), threads, stack_of(device))
    found = run(identity, machine, device, Said())
    file.write_text(found.model_dump_json(indent=1), encoding="utf-8")
    print(f"{found.seconds:.0f} s; interval {found.interval}")


def take_one(case: Case, calibration: Calibration) -> dict[str, Any]:
    """Builds and times one case in this process: its parameters, and its seconds by phase."""
    from planner.calibration.calibrate import run
    from planner.calibration.device import Device
    from planner.calibration.models import Example
    from planner.calibration.threads import use_threads

    use_threads(calibration.threads or 1)
    example = Example(case.name, case.config, case.request.run.model_dump(exclude_unset=True))
    taken = run(example, processor(), Device("cpu", clock=calibration.clock)).taken
    return {"parameters": taken.parameters, "phases": taken.undisturbed_phases, "steps": taken.step_seconds}


def measure(calibration: Calibration, file: Path, seconds: float) -> None:
    """The cases that are not in the file yet; each twice, in children of this process that has the libraries."""
    importlib.import_module("planner.calibration.calibrate")  # loads torch once, before the children

    done = {row["name"] for row in rows(file)}
    ends = time.monotonic() + seconds
    for case in CASES:
        if case.name in done or time.monotonic() + LONGEST_CASE > ends:
            continue
        found = [_in_a_child(case, calibration) for _ in range(2)]
        while len(found) < MOST_BUILDS and not _agree(found):
            found.append(_in_a_child(case, calibration))
        found = _quickest(found)
        with file.open("a", encoding="utf-8") as out:
            out.write(json.dumps({"name": case.name, "parameters": found[0]["parameters"], "runs": found}) + "\n")
        print(case.name, [round(total(run["phases"]), 4) for run in found], flush=True)
    print(f"{len(rows(file))} of {len(CASES)} cases are measured")


def _quickest(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The two quickest builds, as they came: other work on the machine only ever adds time."""
    kept = sorted(found, key=lambda run: total(run["phases"]))[:2]
    return [run for run in found if run in kept]


def _agree(found: list[dict[str, Any]]) -> bool:
    first, second = (total(run["phases"]) for run in _quickest(found))
    return abs(second / first - 1) < AGREEMENT


def _in_a_child(case: Case, calibration: Calibration) -> dict[str, Any]:
    """What `take_one` finds in a fork of this process, so that nothing of a case is left for the next."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        with os.fdopen(writer, "w", encoding="utf-8") as out:
            json.dump(take_one(case, calibration), out)
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


def read(file: Path) -> Calibration:
    """A calibration's document."""
    return Calibration.model_validate_json(file.read_text(encoding="utf-8"))


def report(calibration: Calibration, file: Path) -> None:
    """Every row, then the errors and the noise."""
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
        case ["calibrate", file, *busy]:
            calibrate(Path(file), busy=busy == ["busy"])
        case ["measure", calibration, file, *seconds]:
            measure(read(Path(calibration)), Path(file), float(*seconds or [270.0]))
        case ["report", calibration, file]:
            report(read(Path(calibration)), Path(file))
        case _:
            print(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
