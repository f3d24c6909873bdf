"""Batch times sequence: where a plan fits, and the exact frontier between yes and no."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from planner.evaluation import graded
from planner.plan import Plan, Points, longest_sequence

BATCHES: Final = (1, 2, 4, 8, 16, 32, 64)
SEQUENCES: Final = (512, 1024, 2048, 4096, 8192, 16384, 32768)
LARGEST_BATCH: Final = 2**14
LARGEST_SEQUENCE: Final = 2**20
SECTIONS: Final = 17
"""Into how many parts each look for a frontier cuts what is left."""
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class HeatMap:
    """Grades (positions in VERDICTS) and required bytes, [sequences, batches].

    `largest_batches` holds for each sequence the largest micro-batch of which the whole interval fits, 0 for none;
    `longest_sequence` the same of the plan's own micro-batch. Both are exact, between the cells too.
    """

    batches: tuple[int, ...]
    sequences: tuple[int, ...]
    grades: Integers
    required_bytes: Integers
    largest_batches: tuple[int, ...]
    longest_sequence: int
    sequence_limit: int


def heat_map(plan: Plan) -> HeatMap:
    """The map around a plan, its own sizes among the rows and columns.

    Raises:
        NotModelledError: no formula covers the plan.
        OverflowError: some cell may need more than 4 PiB.
    """
    limit = longest_sequence(plan.spec) or LARGEST_SEQUENCE
    batches = sorted({*BATCHES, plan.micro_batch_size})
    sequences = sorted({*(s for s in SEQUENCES if s <= limit), plan.sequence_length})
    columns, rows = np.meshgrid(np.array(batches), np.array(sequences))
    sums, grades = graded(plan, Points(columns.ravel(), rows.ravel(), plan.rank))
    required = np.broadcast_to(sums.required_bytes, columns.size)
    return HeatMap(
        batches=tuple(batches),
        sequences=tuple(sequences),
        grades=grades.reshape(columns.shape),
        required_bytes=required.reshape(columns.shape),
        largest_batches=_largest_batches(plan, sequences),
        longest_sequence=_longest_sequence(plan, limit),
        sequence_limit=limit,
    )


def _largest_batches(plan: Plan, sequences: Sequence[int]) -> tuple[int, ...]:
    lengths = np.array(sequences, dtype=np.int64)

    def fits(batches: Integers) -> NDArray[np.bool_]:
        repeated = np.broadcast_to(lengths[:, None], batches.shape)
        return _fits(plan, batches, repeated)

    return tuple(_frontier(fits, len(sequences), LARGEST_BATCH).tolist())


def _longest_sequence(plan: Plan, limit: int) -> int:
    def fits(lengths: Integers) -> NDArray[np.bool_]:
        return _fits(plan, np.full(lengths.shape, plan.micro_batch_size, dtype=np.int64), lengths)

    return int(_frontier(fits, 1, limit)[0])


def _fits(plan: Plan, batches: Integers, sequences: Integers) -> NDArray[np.bool_]:
    _, grades = graded(plan, Points(batches.ravel(), sequences.ravel(), plan.rank))
    return (grades == 0).reshape(batches.shape)


def _frontier(fits: Callable[[Integers], NDArray[np.bool_]], rows: int, limit: int) -> Integers:
    """For each row the largest number up to a limit that fits, 0 for none: more never needs less memory.

    Several candidates of every row are weighed at once, then those between the last that fits and the next.
    """
    low, high = np.zeros(rows, dtype=np.int64), np.full(rows, min(limit + 1, SECTIONS), dtype=np.int64)
    while high[0] <= limit and fits(high[:, None]).any():
        high = np.minimum(high * SECTIONS, limit + 1)
    while np.any(high - low > 1):
        parts = np.linspace(0, 1, SECTIONS + 1)[1:-1]
        inside = low[:, None] + np.ceil((high - low)[:, None] * parts).astype(np.int64)
        candidates = np.clip(inside, 1, (high - 1)[:, None])
        held = fits(candidates)
        low = np.maximum(low, np.where(held, candidates, 0).max(axis=1))
        high = np.minimum(high, np.where(held, limit + 1, candidates).min(axis=1))
    return low
