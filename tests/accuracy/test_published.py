"""Predictions of published peaks: each is pinned, so that one that moves is seen, and each group has a loose bound.

After a change that moves predictions on purpose: `python -m benchmarks.published --write`, and say so in the changelog.
"""

from __future__ import annotations

import json
from functools import cache

import pytest

from benchmarks.published import GOLDEN, Score, golden, scores, summaries
from planner.catalog.published import GROUPS, KINDS, published_peaks
from planner.contract import EstimateRequest

# Twice the median that was found at first, rounded up: a bound on what must not come back, not a target.
BOUNDS = {
    ("allocated", "eager"): 0.08,
    ("reserved", "eager"): 0.16,
    ("process", "eager"): 0.15,
    ("unknown", "eager"): 0.20,
    ("reserved", "compiled"): 0.15,
    ("unknown", "compiled"): 0.55,
}


@cache
def found() -> tuple[Score, ...]:
    return tuple(scores())


def test_every_prediction_is_the_pinned_one() -> None:
    assert golden(found()) == json.loads(GOLDEN.read_text(encoding="utf-8"))


@pytest.mark.parametrize(("kind", "group"), BOUNDS)
def test_the_median_error_of_a_group_stays_below_its_bound(kind: str, group: str) -> None:
    (one,) = (s for s in summaries(found()) if (s.publisher, s.kind, s.group) == ("all", kind, group))
    assert one.median_error < BOUNDS[kind, group]


def test_every_row_is_a_request_of_the_contract_and_says_how_it_was_mapped() -> None:
    rows = published_peaks()
    assert len({row.id for row in rows}) == len(rows) == 96
    for row in rows:
        EstimateRequest.model_validate(row.request)
        assert row.kind in KINDS
        assert row.group in GROUPS
        assert row.note
        assert row.source


def test_frameworks_own_rules_reach_the_rows() -> None:
    by_id = {one.row.id: one for one in found()}
    quantised = by_id["litgpt-hub-llama-3.1-8b-qlora-1xa10g"]
    sharded = by_id["torchtitan-commit-e23bb707d-llama3-8b-8h100-baseline"]
    assert quantised.memory is not None
    assert any("micro-batch before" in row.what for row in quantised.memory.ledger)
    assert sharded.memory is not None
    assert not any("autocast" in row.what for row in sharded.memory.ledger)
