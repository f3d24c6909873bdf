"""A compiled step as arrays: what is alive at each instant, and the bytes of any batch, sequence and rank.

Sizes are polynomials, instants counts of storage classes, so that a plan's bytes are two matrix products.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import mul
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from planner.step.checkpoints import CHECKPOINT
from planner.step.simulate import Instant, prune
from planner.step.sizes import Monomial, Quantity, Size, product_of, rounded, values_for
from planner.step.tape import StorageClass, Work

OVERFLOW: Final = 2**61
EXACT: Final = 2**52
"""Below it float64 holds every integer and every quotient by an allocator's rounding, and multiplies far quicker."""


@dataclass(frozen=True, slots=True)
class StepInstant:
    """What is alive at one instant of the step, as (index of the storage class, how many)."""

    moment: str
    operation: str
    live: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, eq=False)
class StepProgram:
    """A compiled step: the instants that can be the highest, and the work with how often it is done.

    The sizes of the K storage classes are the product of `coefficients` [K, monomials] with the monomials' values, the
    bytes of the I instants the product of `counts` [I, K] with the sizes, exactly in each kind of number. Instants of
    one moment stand together; `moments` gives where each begins and ends. `gradients` and `checkpoints` [K] mark the
    classes of those terms.
    """

    kinds: tuple[StorageClass, ...]
    instants: tuple[StepInstant, ...]
    work: tuple[tuple[Work, int, int], ...]
    variables: frozenset[str]
    monomials: tuple[Monomial, ...]
    coefficients: NDArray[Any]
    float_coefficients: NDArray[np.float64]
    largest_coefficients: tuple[float, ...]
    counts: NDArray[Any]
    float_counts: NDArray[np.float64]
    moments: tuple[tuple[str, int, int], ...]
    first_instants: NDArray[np.intp]
    formulas: tuple[str, ...]
    gradients: NDArray[np.bool_]
    checkpoints: NDArray[np.bool_]

    def storage_bytes(self, batch: Quantity, sequence: Quantity, rank: Quantity, rounding_bytes: int) -> NDArray[Any]:
        """Bytes of one storage of each class, rounded as the allocator rounds: [K], or [K, N] for arrays of N plans.

        Raises:
            OverflowError: arrays of which some plan may need more than 4 PiB.
        """
        values = values_for(self.variables, batch, sequence, rank)
        products = [product_of(monomial, values) for monomial in self.monomials]
        if any(isinstance(product, np.ndarray) for product in products):
            if not np.all(self._exact(values)):
                raise OverflowError("the sizes are beyond 4 PiB")
            table: NDArray[Any] = np.array(np.broadcast_arrays(*products), dtype=np.float64)
        else:
            table = np.array(products, dtype=self._exact_dtype(products))
        if table.dtype == np.float64:
            return np.ceil(self.float_coefficients @ table / rounding_bytes) * rounding_bytes
        return rounded(self.coefficients.astype(table.dtype, copy=False) @ table, rounding_bytes)

    def _exact_dtype(self, products: list[Any]) -> Any:
        """The quickest kind of number that holds every instant's bytes of one plan exactly."""
        most = sum(map(mul, products, self.largest_coefficients))
        return np.float64 if most <= EXACT else np.int64 if most <= OVERFLOW else object

    def exact_at(self, batch: Quantity, sequence: Quantity, rank: Quantity) -> NDArray[np.bool_]:
        """Which of many plans `storage_bytes` takes: those that need up to 4 PiB."""
        exact = self._exact(values_for(self.variables, batch, sequence, rank))
        return np.broadcast_to(exact, np.broadcast(batch, sequence, rank).shape)

    def _exact(self, values: Mapping[str, Quantity]) -> Any:
        """Several plans are calculated in float64, exactly as far as they are taken."""
        in_floats = {name: value * 1.0 for name, value in values.items()}
        products = [product_of(monomial, in_floats) for monomial in self.monomials]
        return sum(map(mul, products, self.largest_coefficients)) <= EXACT

    def instant_bytes(self, sizes: NDArray[Any]) -> NDArray[Any]:
        """Bytes alive at each instant: [I], or [I, N]."""
        counts = self.float_counts if sizes.dtype == np.float64 else self.counts.astype(sizes.dtype, copy=False)
        return counts @ sizes

    def highest_bytes(self, instants: NDArray[Any]) -> dict[str, Quantity]:
        """The most bytes of each moment, of instants [I] or [I, N]: Python integers, or int64 arrays."""
        highest = in_integers(np.maximum.reduceat(instants, self.first_instants, axis=0))
        rows = highest.tolist() if highest.ndim == 1 else highest
        return {name: row for (name, _, _), row in zip(self.moments, rows, strict=True)}


def in_integers(values: NDArray[Any]) -> NDArray[Any]:
    """Whole numbers that were calculated in float64 as int64; others as they are."""
    return values.astype(np.int64) if values.dtype == np.float64 else values


def compiled(found: Iterable[tuple[str, Instant]], work: list[tuple[Work, int, int]]) -> StepProgram:
    """The program of instants, each with its moment, and of work, each with how many layers and passes do it."""
    by_moment: dict[str, list[Instant]] = {}
    for moment, instant in found:
        by_moment.setdefault(moment, []).append(instant)
    pruned = [(moment, instant) for moment, instants in by_moment.items() for instant in prune(instants)]
    kinds = tuple(dict.fromkeys(kind for _, instant in pruned for kind in instant.live))
    index = {kind: number for number, kind in enumerate(kinds)}
    instants = tuple(
        StepInstant(moment, instant.operation, tuple((index[kind], count) for kind, count in instant.live.items()))
        for moment, instant in pruned
    )
    sizes = [kind.bytes for kind in kinds] + [size for item, _, _ in work for size in _work_sizes(item)]
    variables = frozenset(variable for size in sizes for variable in size.variables)
    monomials = tuple(sorted({monomial for kind in kinds for monomial, _ in kind.bytes.terms}))
    coefficients, counts = _coefficients(kinds, monomials), _counts(instants, len(kinds))
    moments = _moment_ranges(instants)
    return StepProgram(
        kinds=kinds,
        instants=instants,
        work=tuple(work),
        variables=variables,
        monomials=monomials,
        coefficients=coefficients,
        float_coefficients=coefficients.astype(np.float64),
        largest_coefficients=tuple((counts @ coefficients.astype(np.float64)).max(axis=0, initial=0.0).tolist()),
        counts=counts,
        float_counts=counts.astype(np.float64),
        moments=moments,
        first_instants=np.array([first for _, first, _ in moments], dtype=np.intp),
        formulas=tuple(repr(kind.bytes) for kind in kinds),
        gradients=np.array([kind.term == "gradients" for kind in kinds], dtype=np.bool_),
        checkpoints=np.array([kind.what.startswith(CHECKPOINT) for kind in kinds], dtype=np.bool_),
    )


def _coefficients(kinds: tuple[StorageClass, ...], monomials: tuple[Monomial, ...]) -> NDArray[Any]:
    """[storage classes, monomials] of the sizes; Python integers where 64 bits do not hold one."""
    rows = [[dict(kind.bytes.terms).get(monomial, 0) for monomial in monomials] for kind in kinds]
    largest = max((value for row in rows for value in row), default=0)
    shape = (len(kinds), len(monomials))
    return np.array(rows, dtype=object if largest > OVERFLOW else np.int64).reshape(shape)


def _counts(instants: tuple[StepInstant, ...], kinds: int) -> NDArray[Any]:
    """[instants, storage classes]: how many of each are alive."""
    counts = np.zeros((len(instants), kinds), dtype=np.int64)
    for row, instant in enumerate(instants):
        for index, count in instant.live:
            counts[row, index] = count
    return counts


def _moment_ranges(instants: tuple[StepInstant, ...]) -> tuple[tuple[str, int, int], ...]:
    """(moment, first instant, one past the last) of instants that stand together by moment."""
    ranges: dict[str, tuple[int, int]] = {}
    for position, instant in enumerate(instants):
        first, _ = ranges.get(instant.moment, (position, position))
        ranges[instant.moment] = (first, position + 1)
    return tuple((name, first, end) for name, (first, end) in ranges.items())


def _work_sizes(item: Work) -> tuple[Size, ...]:
    return (item.flops, item.bytes, item.backward_flops, item.backward_bytes)
