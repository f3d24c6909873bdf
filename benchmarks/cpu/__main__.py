"""`python -m benchmarks.cpu [WORD ...]`: runs the cases that hold every word, prints a table and its summary.

The first table holds the steps that the CPU's figures were taken from, the second those that were held out.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.cpu.cases import CASES, HELD_OUT, Case
from benchmarks.cpu.predicted import Predicted, predict

MIB = 2**20
ROOT = Path(__file__).parents[2]
HEAD = (
    "| model | run | batch x length | live MiB, measured | predicted | off | resident MiB, measured | predicted | off "
    "| seconds of one core, measured | predicted | measured / predicted speed |\n"
    "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
)
Result = tuple[dict[str, Any], Predicted]


def measured(case: Case, seconds: float | None = None) -> dict[str, Any]:
    """Runs the case in a process of its own; `seconds` bounds the timing."""
    command = [sys.executable, "-m", "benchmarks.cpu.step", case.to_json()]
    command += [] if seconds is None else [str(seconds)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def resident_bytes(got: dict[str, Any]) -> int:
    """What the steps add to the resident size after the imports."""
    return got["resident_peak_bytes"] - got["imported_bytes"]


def off(estimate: float, truth: float) -> float:
    """Relative difference in percent."""
    return 100 * (estimate - truth) / truth


def row(case: Case, got: dict[str, Any], said: Predicted) -> str:
    """One line of the table."""
    live, resident = got["live_peak_bytes"], resident_bytes(got)
    seconds = statistics.median(got["processor_seconds"])
    return (
        f"| {case.model} | {case.label} | {case.batch} x {case.sequence} | {live / MIB:,.0f} "
        f"| {said.live_bytes / MIB:,.0f} | {off(said.live_bytes, live):+.2f} % | {resident / MIB:,.0f} "
        f"| {said.resident_bytes / MIB:,.0f} | {off(said.resident_bytes, resident):+.1f} % "
        f"| {seconds:.2f} | {said.seconds:.2f} | {said.seconds / seconds:.2f} |"
    )


def summary(results: list[Result]) -> str:
    """Medians and extremes over all cases."""
    live = [off(said.live_bytes, got["live_peak_bytes"]) for got, said in results]
    resident = [off(said.resident_bytes, resident_bytes(got)) for got, said in results]
    medians = [statistics.median(got["processor_seconds"]) for got, _ in results]
    inside = sum(
        said.interval[0] <= seconds <= said.interval[1] for seconds, (_, said) in zip(medians, results, strict=True)
    )
    speed = [said.seconds / seconds for seconds, (_, said) in zip(medians, results, strict=True)]
    imported = statistics.median(got["imported_bytes"] for got, _ in results) / MIB
    return "\n".join(
        (
            f"n = {len(results)}; resident after the imports {imported:.0f} MiB",
            _spread("live tensors", live, " %"),
            _spread("resident peak", resident, " %"),
            f"{_spread('measured over predicted speed', speed, '')}; {inside} of {len(results)} inside the interval",
        )
    )


def _spread(name: str, values: list[float], unit: str) -> str:
    middle = statistics.median(values)
    distance = statistics.median(abs(value) for value in values)
    return (
        f"{name}: median {middle:.2f}{unit}, median size {distance:.2f}{unit}, {min(values):.2f} to {max(values):.2f}"
    )


def table(cases: list[Case], words: list[str]) -> None:
    """Runs and prints those cases that hold all words."""
    chosen = [case for case in cases if all(word in f"{case.model} {case.label}" for word in words)]
    results: list[Result] = []
    print(HEAD)
    for case in chosen:
        results.append((measured(case), predict(case)))
        print(row(case, *results[-1]), flush=True)
    if results:
        print(summary(results), flush=True)


def main(words: list[str]) -> None:
    """The command."""
    table(CASES, words)
    table(HELD_OUT, words)


if __name__ == "__main__":
    main(sys.argv[1:])
