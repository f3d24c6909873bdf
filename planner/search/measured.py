"""What many plans of one category are compared by, and which of them keep the constraints."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from planner.contract import Verdict
from planner.evaluation import VERDICTS, Survey
from planner.plan import Plan, Points
from planner.search.contract import Constraints
from planner.search.front import Floats
from planner.search.quality import quality_order
from planner.throughput import seconds_to_finish
from planner.units import GIB

HOUR: Final = 3600.0
Refuse = Callable[[str, str, str, int], None]
"""Counts plans that are refused: code, field, message, how many."""

WORST_TAKEN: Final = {"fits": 0, "tight": 1, "any": len(VERDICTS) - 1}
"""The last position in VERDICTS that a constraint takes."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What plans are compared by, one element a plan; infinite where it is not known."""

    memory: Floats
    seconds: Floats
    dollars: Floats
    finish: Floats
    quality: Floats

    @classmethod
    def of(cls, plan: Plan, points: Points, weighed: Survey) -> Measured:
        """The figures of a survey."""
        shape = points.batch.shape
        memory = np.broadcast_to(weighed.totals.required_bytes, shape) * float(plan.machine.logical_devices)
        quality = np.broadcast_to(quality_order(plan, points.rank), shape).astype(np.float64)
        unknown = np.full(shape, np.inf)
        if weighed.time is None:
            return cls(memory, unknown, unknown, unknown, quality)
        seconds = 1.0 / weighed.time.tokens_per_second
        rent = plan.machine.rent
        price = None if rent is None else rent.usd_per_hour
        dollars = unknown if price is None else seconds * (price / HOUR)
        tokens = plan.tokens_at(points.sequence)
        finish = unknown if tokens is None else seconds_to_finish(weighed.time, tokens)
        return cls(memory, seconds, dollars, finish, quality)


def keeping(
    limits: Constraints, plan: Plan, points: Points, weighed: Survey, measured: Measured, refuse: Refuse
) -> NDArray[np.bool_]:
    """Which plans keep every constraint; the others are counted by the first that they break."""
    keeps = cast("NDArray[np.bool_]", np.full(points.batch.shape, True))
    for grade, verdict in enumerate(VERDICTS):
        if grade > WORST_TAKEN[limits.verdict]:
            lost = cast("NDArray[np.bool_]", weighed.grades == grade)
            refuse(verdict, "machine", _VERDICT_WORDS[verdict], int(np.count_nonzero(lost)))
            keeps = keeps & ~lost
    for name, held, message in _held(limits, plan, points, weighed, measured):
        refuse(name, f"constraints.{name}", message, int(np.count_nonzero(keeps & ~held)))
        keeps = keeps & held
    return keeps


_VERDICT_WORDS: Final[Mapping[Verdict, str]] = {
    "tight": "the memory that is usable lies inside the interval of what is needed",
    "unsupported": "no known software runs it on that hardware",
    "does_not_fit": "it needs more memory or disk than there is",
}


def _held(
    limits: Constraints, plan: Plan, points: Points, weighed: Survey, measured: Measured
) -> Sequence[tuple[str, NDArray[np.bool_], str]]:
    """(constraint, where it holds, what the others lack) of every constraint that was given."""
    headroom = plan.machine.usable_bytes - np.broadcast_to(weighed.totals.required_bytes, points.batch.shape)
    rent = None if plan.machine.rent is None else plan.machine.rent.usd_per_hour
    cost = np.zeros(points.batch.shape) if rent == 0 else measured.finish * (np.inf if rent is None else rent / HOUR)
    rank = points.rank if plan.rules.has_adapters else np.full(points.batch.shape, np.iinfo(np.int64).max)
    candidates = [
        ("minimum_sequence_length", points.sequence, limits.minimum_sequence_length, "the sequence is shorter", 1),
        ("minimum_micro_batch_size", points.batch, limits.minimum_micro_batch_size, "the micro-batch is smaller", 1),
        ("minimum_rank", rank, limits.minimum_rank, "the rank is lower", 1),
        ("minimum_tokens_per_second", 1.0 / measured.seconds, limits.minimum_tokens_per_second, "it is slower", 1),
        ("minimum_headroom_gib", headroom / GIB, limits.minimum_headroom_gib, "it leaves less memory to spare", 1),
        ("hours", measured.finish / HOUR, limits.hours, "it takes longer, or its time is not known", -1),
        ("budget_usd", cost, limits.budget_usd, "it costs more, or has no price", -1),
    ]
    return [
        (name, values >= bound if sign > 0 else values <= bound, message)
        for name, values, bound, message, sign in candidates
        if bound is not None
    ]
