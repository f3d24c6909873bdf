"""How far predictions are from what was measured: `python -m benchmarks.published`; `--write` pins what changed.

It writes the prediction for each document, the intervals and the report that /accuracy shows. A change that moves any
of them says so in the changelog.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from app.cli.console import Console
from app.cli.evaluate import show
from planner.accuracy.prediction import Prediction, predictions
from planner.accuracy.report import report_on
from planner.accuracy.residuals import interval_rows
from planner.interval import forget

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "accuracy" / "published_predictions.json"
INTERVALS = ROOT / "planner" / "catalog" / "intervals.jsonl"
REPORT = ROOT / "planner" / "catalog" / "accuracy.json"


def golden(found: Iterable[Prediction]) -> dict[str, Any]:
    """What is predicted for each document, null where it is not modelled.

    Bytes by kind of peak (of a run that ran out, what is required) and tokens a second.
    """
    return {one.run.id: None if one.memory is None else _predicted(one) for one in found}


def _predicted(one: Prediction) -> dict[str, float | None]:
    bytes_by_kind: dict[str, float | None] = {peak.kind: one.bytes_of(peak.kind) for peak in one.run.peaks}
    if one.memory is not None and one.run.outcome == "out_of_memory":
        bytes_by_kind["required"] = one.memory.required_bytes
    speed = None if one.tokens_per_second is None else float(f"{one.tokens_per_second:.4g}")
    return bytes_by_kind | ({} if one.run.tokens_per_second is None else {"tokens_per_second": speed})


def main() -> None:
    found = predictions()
    if "--write" in sys.argv:
        lines = [f'"{name}": {json.dumps(value)}' for name, value in golden(found).items()]
        GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
        INTERVALS.write_text("".join(f"{json.dumps(row)}\n" for row in interval_rows(found)), encoding="utf-8")
        forget()
        predictions.cache_clear()
        report = report_on(predictions()).model_dump(exclude={"estimator_version", "catalog_version"})
        REPORT.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    show(report_on(predictions()), Console.standard())


if __name__ == "__main__":
    main()
