"""Predictions of measured runs: each is pinned, so that one that moves is seen, and each group has a loose bound.

After a change that moves predictions on purpose: `python -m benchmarks.published --write`, and say so in the changelog.
"""

from __future__ import annotations

import json
import statistics

import numpy as np
import pytest

from benchmarks.published import GOLDEN, golden
from planner.accuracy.held_out import held_out, with_one_row
from planner.accuracy.prediction import predictions
from planner.accuracy.report import Accuracy, published_accuracy, report_on
from planner.accuracy.residuals import Residual, faithful, grouped, interval_rows, residuals_of
from planner.interval import FITTED, REQUIRED, STEP_TIME, UNCALIBRATED, factors_of

# What must not come back, not a target: a third above what was reached.
BOUNDS = {
    ("allocated", ""): 0.005,
    ("reserved", ""): 0.06,
    ("process", ""): 0.10,
    ("unknown", ""): 0.12,
    ("allocated, cpu", ""): 0.002,
    ("resident, cpu", ""): 0.05,
    ("step_time", ""): 0.16,
}


@pytest.fixture(scope="module")
def kept() -> list[Residual]:
    return faithful(residuals_of(predictions()))


@pytest.fixture(scope="module")
def report() -> Accuracy:
    return report_on(predictions())


def test_every_prediction_is_the_pinned_one() -> None:
    found, pinned = golden(predictions()), json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert found.keys() == pinned.keys()
    for name, values in found.items():
        assert values == pytest.approx(pinned[name], rel=2e-4) if values else pinned[name] is None, name


def test_bytes_are_pinned_to_the_byte() -> None:
    pinned = json.loads(GOLDEN.read_text(encoding="utf-8"))
    for name, values in golden(predictions()).items():
        for kind in (values or {}).keys() - {"tokens_per_second"}:
            assert values is not None
            assert values[kind] == pinned[name][kind], name


@pytest.mark.parametrize(("quantity", "value"), BOUNDS)
def test_the_median_error_of_a_quantity_stays_below_its_bound(report: Accuracy, quantity: str, value: str) -> None:
    (line,) = (row for row in report.overall if (row.quantity, row.value) == (quantity, value))
    assert line.median_error < BOUNDS[quantity, value]


def test_no_run_that_ran_is_refused_and_none_that_ran_out_is_let_through(report: Accuracy) -> None:
    assert report.verdicts.said_no_but_it_ran == []
    assert report.verdicts.said_it_fits_but_it_ran_out == []
    assert report.verdicts.ran > 100
    assert report.verdicts.ran_out > 20


def test_the_intervals_are_those_of_the_residuals() -> None:
    for row in interval_rows(predictions()):
        if row["basis"] == FITTED:
            found = factors_of(row["quantity"], row["device_class"])
            assert (found.low, found.high, found.rows) == (row["low"], row["high"], row["rows"])


def test_a_class_of_devices_without_rows_takes_the_widest_interval() -> None:
    fitted = factors_of("required", "nvidia gpu")
    for group in ("apple", "tpu", "amd gpu", "intel gpu", "never seen"):
        found = factors_of("required", group)
        assert found.basis == UNCALIBRATED
        assert found.low <= fitted.low < fitted.high <= found.high


def test_factors_hold_whole_bytes_of_any_size() -> None:
    factors = factors_of("required", "nvidia gpu")
    for size in (0, 1, 999, 1000, 12_345_678_901, 2**52):
        low, high = factors.around(size)
        assert low == size * factors.low // 1000
        assert high == size * factors.high // 1000
        assert [end[0] for end in factors.around(np.array([size]))] == [low, high]


def test_nine_of_ten_rows_lie_in_the_interval(kept: list[Residual]) -> None:
    for group, rows in grouped(kept, lambda one: one.group).items():
        factors = factors_of(*group)
        inside = sum(factors.low <= 1000 * one.ratio <= factors.high for one in rows)
        assert inside / len(rows) >= 0.9, group


def test_the_intervals_hold_85_to_95_percent_of_publishers_models_and_devices_that_were_left_out(
    kept: list[Residual],
) -> None:
    found = [row for row in held_out(kept) if row.quantity in {REQUIRED, STEP_TIME}]
    assert {row.left_out for row in found if row.device_class == "nvidia gpu"} == {"publisher", "model", "device"}
    for row in found:
        assert 0.85 <= row.coverage <= 0.95, row


def test_what_was_measured_of_a_partial_row_lies_between_the_ends_or_is_named(report: Accuracy) -> None:
    bounds = report.bounds
    assert bounds.between >= 0.6 * bounds.tested
    assert len(bounds.broken) == bounds.tested - bounds.between
    assert bounds.rows >= bounds.tested > 10


def test_the_one_fitted_factor_of_time_is_the_middle_of_the_publishers(kept: list[Residual]) -> None:
    of_time = [one for one in kept if one.group == (STEP_TIME, "nvidia gpu")]
    medians = [
        statistics.median(one.ratio for one in rows)
        for rows in grouped(of_time, lambda one: one.prediction.run.publisher).values()
    ]
    assert statistics.median(medians) == pytest.approx(1.0, abs=0.03)


def test_one_row_of_the_same_device_halves_the_error_of_speed(kept: list[Residual]) -> None:
    assert with_one_row(kept).median_error <= 0.10


def test_the_kept_report_is_the_one_that_the_predictions_give(report: Accuracy) -> None:
    kept, found = published_accuracy().model_dump(), report.model_dump()
    assert _rounded(kept) == _rounded(found)


def _rounded(value: object) -> object:
    """Floats to three places: the last digit may depend on the machine."""
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return float(f"{value:.3g}") if isinstance(value, float) else value


def test_frameworks_own_rules_reach_the_rows() -> None:
    by_id = {one.run.id: one for one in predictions()}
    quantised = by_id["litgpt-hub-llama-3.1-8b-qlora-1xa10g"]
    sharded = by_id["torchtitan-commit-e23bb707d-llama3-8b-8h100-baseline"]
    assert quantised.memory is not None
    assert any("micro-batch before" in row.what for row in quantised.memory.ledger)
    assert sharded.memory is not None
    assert not any("autocast" in row.what for row in sharded.memory.ledger)
