"""How far the estimates are from published peaks: `python -m benchmarks.published`; `--write` pins the predictions.

Each kind of peak is scored by itself: allocated bytes against the step's allocated peak, reserved against reserved,
the driver's figure against the whole process. A row whose kind nobody stated is compared with reserved bytes.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from planner.catalog.models import model
from planner.catalog.published import PublishedPeak, published_peaks
from planner.contract import DeviceMemory, EstimateRequest
from planner.estimate import estimate
from planner.hardware import resolve_machine
from planner.units import GIB

GOLDEN = Path(__file__).parents[1] / "tests" / "accuracy" / "published_predictions.json"


@dataclass(frozen=True, slots=True)
class Score:
    """One row with its prediction; `memory` is None where the plan is not modelled."""

    row: PublishedPeak
    memory: DeviceMemory | None
    reason: str

    @property
    def predicted_bytes(self) -> int:
        assert self.memory is not None
        return {
            "allocated": self.memory.peak_allocated_bytes,
            "process": self.memory.peak_process_bytes,
        }.get(self.row.kind, self.memory.peak_reserved_bytes)

    @property
    def error(self) -> float:
        """Predicted over measured, minus one."""
        return self.predicted_bytes / self.row.peak_bytes - 1


@dataclass(frozen=True, slots=True)
class Summary:
    """Errors of one group: how many rows, and the size and sign of what is wrong."""

    publisher: str
    kind: str
    group: str
    count: int
    median_error: float
    high_error: float
    bias: float
    worst: tuple[Score, ...]


def score(row: PublishedPeak) -> Score:
    """The engine's prediction for one row."""
    request = EstimateRequest.model_validate(row.request)
    config = request.model.config if request.model.config is not None else model(request.model.id or "").config
    answer = estimate(request, config=config, machine=resolve_machine(request.machine), advice=False)
    if answer.memory is None:
        return Score(row, None, answer.reasons[0].message)
    return Score(row, answer.memory.device, "")


def scores() -> list[Score]:
    """Every published row with its prediction."""
    return [score(row) for row in published_peaks()]


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-int(share * 1000 * len(ordered)) // 1000) - 1))]


def summary(publisher: str, kind: str, group: str, found: Iterable[Score]) -> Summary:
    rows = sorted(found, key=lambda one: -abs(one.error))
    sizes = [abs(one.error) for one in rows]
    bias = statistics.median(one.error for one in rows)
    return Summary(
        publisher, kind, group, len(rows), statistics.median(sizes), quantile(sizes, 0.95), bias, tuple(rows[:3])
    )


def summaries(found: Iterable[Score]) -> list[Summary]:
    """One summary for each publisher, kind and group, then one for each group over all publishers."""
    groups: dict[tuple[str, str, str], list[Score]] = defaultdict(list)
    for one in found:
        if one.memory is not None:
            groups[one.row.publisher, one.row.kind, one.row.group].append(one)
            groups["all", one.row.kind, one.row.group].append(one)
    ordered = sorted(groups, key=lambda key: (key[0] == "all", key))
    return [summary(*key, groups[key]) for key in ordered]


def table(found: Iterable[Summary]) -> str:
    """The summaries as a table in Markdown."""
    lines = [
        "| publisher | kind | group | rows | median error | 95th percentile | median signed error |",
        "|---|---|---|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {one.publisher} | {one.kind} | {one.group} | {one.count} | {one.median_error:.1%} | {one.high_error:.1%} "
        f"| {one.bias:+.1%} |"
        for one in found
    ]
    return "\n".join(lines)


def golden(found: Iterable[Score]) -> dict[str, int | None]:
    """Each row's predicted bytes, null where the plan is not modelled."""
    return {one.row.id: None if one.memory is None else one.predicted_bytes for one in found}


def _line(one: Score) -> str:
    gib = f"{one.row.peak_bytes / GIB:6.2f} GiB measured, {one.predicted_bytes / GIB:6.2f} predicted"
    return f"{one.error:+7.1%}  {gib}  {one.row.id}"


def main() -> None:
    found = scores()
    if "--write" in sys.argv:
        GOLDEN.write_text(json.dumps(golden(found), indent=1) + "\n", encoding="utf-8")
    every = summaries(found)
    print(table(every))
    for one in every:
        if one.publisher != "all":
            print(f"\nworst of {one.publisher}, {one.kind}, {one.group}:")
            print("\n".join(_line(row) for row in one.worst))
    missing = [one for one in found if one.memory is None]
    print(f"\nnot modelled: {len(missing)}")
    for one in missing:
        print(f"  {one.row.id}: {one.reason}")


if __name__ == "__main__":
    main()
