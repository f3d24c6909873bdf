"""Published training speeds against the roofline: the interval's factors are quantiles of these rows.

published_steps.jsonl holds the rows of dense models in 16 bit without offloading, on one device or data-parallel, whose
settings are known: what docs/accuracy.md lists. When the model of a step changes, this test says by how much the
factors in planner/catalog/throughput_factors.jsonl are off.
"""

from __future__ import annotations

import json
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from planner.architecture.count import counted_modules, total
from planner.architecture.registry import read_config
from planner.architecture.spec import ModelSpec
from planner.catalog.models import model
from planner.hardware.devices import device
from planner.step.program import compile_step
from planner.step.rules import StepRules
from planner.throughput import StepTime, bytes_sent, step_time
from planner.throughput.factors import factors

ROWS: list[dict[str, Any]] = [
    json.loads(line) for line in (Path(__file__).parent / "published_steps.jsonl").read_text().splitlines()
]
STATE_BYTES = {True: 28, False: 14}
"""AdamW a parameter: reads weight, gradient and two moments, writes all but the gradient, in float32 or 16 bit."""


def rules_of(row: dict[str, Any]) -> StepRules:
    return StepRules(
        row["method"], "bfloat16", "bfloat16", "bfloat16", "bfloat16",
        targets=tuple(row["targets"]) if row["targets"] else None, scheme=row["scheme"],
        checkpointing=row["checkpointing"], checkpoint_every=row["checkpoint_every"], loss=row["loss"],
        framework=row["framework"], accumulate=row["gradient_accumulation_steps"] > 1,
    )  # fmt: skip


def trained(spec: ModelSpec, rules: StepRules, rank: int) -> int:
    if rules.trains_base:
        return total(spec)
    adapted = ((module, count) for module, count in counted_modules(spec) if rules.adapts(module))
    return sum(count * rank * (module.inputs + module.outputs) for module, count in adapted)


def time_of(row: dict[str, Any]) -> StepTime:
    spec = read_config({**model(row["model"]).config, **row["changes"]})
    rules, ranks, stage = rules_of(row), row["data_parallel"], row["zero_stage"]
    parameters = trained(spec, rules, row["rank"])
    return step_time(
        compile_step(spec, rules), rules, spec, device(row["device"]),
        batch=row["batch"], sequence=row["sequence"], rank=row["rank"] or 1,
        gradient_accumulation_steps=row["gradient_accumulation_steps"],
        optimizer_bytes=parameters * STATE_BYTES[row["float32_master"]] // (ranks if stage else 1),
        data_parallel=ranks, zero_stage=stage,
        communication_bytes=bytes_sent(
            gradient_bytes=2 * parameters, weight_bytes=2 * total(spec), data_parallel=ranks, zero_stage=stage,
            gradient_accumulation_steps=row["gradient_accumulation_steps"],
        ),
    )  # fmt: skip


@cache
def ratios() -> dict[str, NDArray[np.float64]]:
    """Measured over predicted speed by publisher."""
    found: dict[str, list[float]] = defaultdict(list)
    for row in ROWS:
        predicted = time_of(row).tokens_per_second / row["data_parallel"]
        found[row["family"]].append(row["tokens_per_second_per_device"] / predicted)
    return {family: np.array(values) for family, values in found.items()}


def weighted_quantile(share: float) -> float:
    """A quantile in which every publisher counts once."""
    values = np.concatenate(list(ratios().values()))
    weights = np.concatenate([np.full(len(rows), 1 / len(rows)) for rows in ratios().values()])
    order = np.argsort(values)
    reached = np.cumsum(weights[order]) / weights.sum()
    return float(values[order][np.searchsorted(reached, share)])


def test_the_estimate_is_in_the_middle_of_what_publishers_measured() -> None:
    medians = [float(np.median(rows)) for rows in ratios().values()]
    assert np.median(medians) == pytest.approx(1.0, abs=0.03)


def test_the_interval_is_the_quantiles_it_says() -> None:
    every = np.concatenate(list(ratios().values()))
    slowest = min(weighted_quantile(0.05), float(np.quantile(every, 0.05)))
    fastest = max(weighted_quantile(0.95), float(np.quantile(every, 0.95)))
    assert factors()["interval_high"].values["nvidia"] == pytest.approx(1 / slowest, rel=0.05)
    assert factors()["interval_low"].values["nvidia"] == pytest.approx(1 / fastest, rel=0.05)


def test_the_interval_holds_nine_of_ten_rows() -> None:
    every = np.concatenate(list(ratios().values()))
    low, high = factors()["interval_low"].values["nvidia"], factors()["interval_high"].values["nvidia"]
    assert np.mean((1 / every >= low) & (1 / every <= high)) >= 0.9


def test_rows_are_of_known_devices_and_models() -> None:
    for row in ROWS:
        assert device(row["device"])
        assert model(row["model"])
        assert row["tokens_per_second_per_device"] > 0
