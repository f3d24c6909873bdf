"""What both ways of timing share: a compiled step as a key, and its monomials as numbers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.architecture.spec import ModelSpec
from planner.step.program import StepProgram
from planner.step.rules import StepRules
from planner.step.sizes import Monomial, product_of, values_for


class CompiledStep:
    """A compiled step as a key of a cache: the same program is the same object (`compile_step` is cached)."""

    __slots__ = ("program", "rules", "spec")

    def __init__(self, program: StepProgram, rules: StepRules, spec: ModelSpec) -> None:
        self.program, self.rules, self.spec = program, rules, spec

    def __hash__(self) -> int:
        return id(self.program)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CompiledStep) and self.program is other.program


def monomial_values(
    monomials: Iterable[Monomial], variables: Iterable[str], batch: Any, sequence: Any, rank: Any
) -> NDArray[np.float64]:
    """The value of each monomial for each plan, float64 [monomials, plans], of ints or int64 arrays [plans]."""
    values = values_for(variables, batch, sequence, rank)
    products = [1.0 * product_of(monomial, values) for monomial in monomials]
    several = any(isinstance(product, np.ndarray) for product in products)
    return np.array(np.broadcast_arrays(*products) if several else products).reshape(len(products), -1)
