"""The bytes of a compiled step at some sizes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from planner.memory.sharding import Sharding
from planner.plan import Plan, Points
from planner.step.program import StepProgram
from planner.step.sizes import Quantity, ceiling_division

STEP: Final = ("forward", "loss", "backward", "optimizer_step")
"""The moments of a step."""


@dataclass(slots=True)
class StepBytes:
    """A step's bytes at some sizes: of each storage class [K], and alive at each instant [I]; or [K, N] and [I, N]."""

    program: StepProgram
    sizes: NDArray[Any]
    instants: NDArray[Any]

    @classmethod
    def at(cls, program: StepProgram, plan: Plan, points: Points) -> StepBytes:
        """Each class rounded as the allocator rounds, gradients as the shards that a rank keeps."""
        rounding = plan.machine.device.allocation_rounding_bytes
        sizes = program.storage_bytes(points.batch, points.sequence, points.rank, rounding)
        shards = Sharding(plan.zero_stage, plan.data_parallel).gradient_shards
        if shards > 1:
            split = ceiling_division(sizes[program.gradients], shards)
            sizes[program.gradients] = ceiling_division(split, rounding) * rounding
        return cls(program, sizes, program.instant_bytes(sizes))

    def highest(self, sizes: NDArray[Any]) -> Quantity:
        """The most bytes of any instant of the step when the storage classes have these sizes."""
        moments = self.program.highest_bytes(self.program.instant_bytes(sizes))
        return highest_of([alive for name, alive in moments.items() if name in STEP])


def whole(values: Any) -> Quantity:
    """A number or an array of whole numbers, as Python's integer or as int64."""
    return np.asarray(values, dtype=np.int64) if np.ndim(values) else int(values)


def highest_of(values: list[Quantity]) -> Quantity:
    """The largest of several numbers, or of several arrays element by element."""
    return reduce(np.maximum, values) if any(isinstance(value, np.ndarray) for value in values) else max(values)
