"""What the intervals and the one fitted factor are worth on rows that they were not taken from.

Fitted to the corpus are only the intervals and, of time, `step_fraction` (the median of the publishers' medians). Each
group of rows is left out in turn, both are fitted to the others as an answer would have them, the fall-back for few
rows included, and the group is scored: by publisher, by model and by device.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Final

from planner.accuracy.residuals import FEWEST_ROWS, Residual, grouped, is_fitted, limits
from planner.interval import SCALE, STEP_TIME

LEFT_OUT_BY: Final[dict[str, Callable[[Residual], str]]] = {
    "publisher": lambda one: one.prediction.run.publisher,
    "model": lambda one: one.prediction.run.request.model.id or one.prediction.model_type,
    "device": lambda one: one.prediction.device_id,
}


@dataclass(frozen=True, slots=True)
class HeldOut:
    """How the rows that were left out fared: `covered` of `count` inside the interval of the others."""

    quantity: str
    device_class: str
    left_out: str
    folds: int
    count: int
    covered: int
    median_error: float

    @property
    def coverage(self) -> float:
        """The share of rows inside."""
        return self.covered / self.count


def held_out(residuals: Sequence[Residual]) -> list[HeldOut]:
    """Every group that is large enough, left out in each way; a way with one fold cannot be held out."""
    found: list[HeldOut] = []
    groups = grouped(residuals, lambda one: one.group)
    for group, members in sorted(groups.items()):
        if len(members) < FEWEST_ROWS:
            continue
        elsewhere = [limits(rows) for other, rows in groups.items() if other[0] == group[0] and other != group]
        for name, key in LEFT_OUT_BY.items():
            folds = grouped(members, key)
            if len(folds) > 1:
                found.append(_held_out(group, name, members, list(folds.values()), elsewhere))
    return found


def _held_out(
    group: tuple[str, str],
    name: str,
    members: Sequence[Residual],
    folds: list[list[Residual]],
    elsewhere: Sequence[tuple[int, int]],
) -> HeldOut:
    covered, errors = 0, list[float]()
    for fold in folds:
        left = {id(one) for one in fold}
        others = [one for one in members if id(one) not in left]
        scale = _scale(others) if group[0] == STEP_TIME else 1.0
        low, high = _as_answered(others, elsewhere)
        covered += sum(low <= SCALE * one.ratio <= high for one in fold)
        errors += [abs(_error(one, scale)) for one in fold]
    return HeldOut(*group, name, len(folds), len(members), covered, statistics.median(errors))


def _as_answered(others: Sequence[Residual], elsewhere: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The limits that an answer would take if only these rows were known of a class: too few take the widest."""
    own = limits(others)
    if is_fitted(others):
        return own
    lows, highs = zip(own, *elsewhere, strict=True)
    return min(lows), max(highs)


def _scale(others: Sequence[Residual]) -> float:
    """What `step_fraction` would have to be changed by if only these rows were known."""
    medians = [
        statistics.median(one.ratio for one in rows)
        for rows in grouped(others, lambda one: one.prediction.run.publisher).values()
    ]
    return statistics.median(medians)


def _error(one: Residual, scale: float) -> float:
    """Predicted over measured, less one: of bytes, or of speed where every prediction's time is scaled."""
    return one.ratio / scale - 1 if one.quantity == STEP_TIME else 1 / one.ratio - 1


@dataclass(frozen=True, slots=True)
class OneRow:
    """Errors of speed where another row of the same device set the scale."""

    count: int
    median_error: float
    devices: int


def with_one_row(residuals: Sequence[Residual]) -> OneRow:
    """Each ordered pair of rows of one device and publisher: the first sets the scale, the second is scored.

    That is a person who measured one run on a machine with a trainer, and asks about another run there.
    """
    groups = grouped(
        (one for one in residuals if one.quantity == STEP_TIME and one.prediction.device_class != "cpu"),
        lambda one: (one.prediction.device_id, one.prediction.run.publisher, one.prediction.devices),
    )
    several = [rows for rows in groups.values() if len(rows) > 1]
    medians = [
        statistics.median(abs(_error(scored, first.ratio)) for first, scored in permutations(rows, 2))
        for rows in several
    ]
    return OneRow(sum(map(len, several)), statistics.median(medians), len(several))
