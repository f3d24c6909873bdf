"""Sizes as polynomials in batch, sequence and rank, evaluated with ints or with int64 arrays.

A `Size` maps a monomial (a sorted tuple of variable names) to an integer coefficient. Variables: `b` micro-batch, `s`
sequence length, `r` adapter rank, and derived ones: `s<=N` is min(s, N) (a sliding window), `s>N` is 1 when s is above
N and 0 when not, `s!>N` the opposite, `t/N` is ceil(b*s / N) (a chunk of the tokens), `p/N` the next power of two of
it, `s/N` is ceil(s / N), `b>1` is 1 when there are several rows. `e` counts an encoder's positions until `substituted`
says how many they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

import numpy as np

Monomial = tuple[str, ...]
Quantity = Any
"""A number of one plan, or an array of numbers, one element a plan: the formulas take and give both."""


class Size:
    """A polynomial with non-negative integer coefficients. Immutable and hashable."""

    __slots__ = ("_hash", "terms")

    def __init__(self, terms: Mapping[Monomial, int] | Iterable[tuple[Monomial, int]] = ()) -> None:
        self.terms: tuple[tuple[Monomial, int], ...] = tuple(sorted((m, c) for m, c in dict(terms).items() if c))
        self._hash = hash(self.terms)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Size) and self.terms == other.terms

    def __repr__(self) -> str:
        return " + ".join("*".join((str(c), *m)) for m, c in self.terms) or "0"

    def __add__(self, other: Size) -> Size:
        total = dict(self.terms)
        for monomial, coefficient in other.terms:
            total[monomial] = total.get(monomial, 0) + coefficient
        return Size(total)

    def __mul__(self, other: int | Size) -> Size:
        if isinstance(other, int):
            return Size({m: c * other for m, c in self.terms})
        product: dict[Monomial, int] = {}
        for left, a in self.terms:
            for right, b in other.terms:
                key = tuple(sorted(left + right))
                product[key] = product.get(key, 0) + a * b
        return Size(product)

    __rmul__ = __mul__

    def part(self, share: float) -> Size:
        """A share of the size, each coefficient rounded."""
        return Size({m: round(c * share) for m, c in self.terms})

    def substituted(self, lengths: Mapping[str, Size]) -> Size:
        """The size with variables replaced by sizes of their own (an encoder's positions by 1,500)."""
        result = Size()
        for monomial, coefficient in self.terms:
            product = constant(coefficient)
            for variable in monomial:
                product = product * lengths.get(variable, Size({(variable,): 1}))
            result = result + product
        return result

    def at(self, values: Mapping[str, Any]) -> Any:
        """The number of elements or bytes at the given values of the variables."""
        result: Any = 0
        for monomial, coefficient in self.terms:
            product: Any = coefficient
            for variable in monomial:
                product = product * values[variable]
            result = result + product
        return result

    @property
    def variables(self) -> set[str]:
        """Names of all variables in it."""
        return {variable for monomial, _ in self.terms for variable in monomial}


def constant(value: int) -> Size:
    """A size that depends on nothing."""
    return Size({(): value})


B = Size({("b",): 1})
S = Size({("s",): 1})
R = Size({("r",): 1})
TOKENS = Size({("b", "s"): 1})
SCORES = Size({("b", "s", "s"): 1})
ENCODED = Size({("b", "e"): 1})
CROSS_SCORES = Size({("b", "s", "e"): 1})


def windowed(window: int | None) -> Size:
    """min(s, window), or s without a window."""
    return S if window is None else Size({(f"s<={window}",): 1})


def above(limit: int) -> Size:
    """1 when the sequence is longer than the limit, else 0."""
    return Size({(f"s>{limit}",): 1})


def at_most(limit: int) -> Size:
    """1 when the sequence is at most as long as the limit, else 0."""
    return Size({(f"s!>{limit}",): 1})


def chunks_of(length: int) -> Size:
    """ceil(s / length): the chunks of one sequence."""
    return Size({(f"s/{length}",): 1})


def token_chunk(chunks: int) -> Size:
    """ceil(b*s / chunks): the tokens of one chunk."""
    return Size({(f"t/{chunks}",): 1})


def product_of(monomial: Monomial, values: Mapping[str, Any]) -> Any:
    """The value of a monomial: 1 for the constant one."""
    product: Any = 1
    for variable in monomial:
        product = product * values[variable]
    return product


def values_for(variables: Iterable[str], batch: Any, sequence: Any, rank: Any) -> dict[str, Any]:
    """The values of all variables, base and derived.

    Args:
        variables: names that occur in the sizes to be evaluated.
        batch, sequence, rank: ints, or int64 arrays that broadcast against each other.
    """
    values: dict[str, Any] = {"b": batch, "s": sequence, "r": rank}
    for name in variables:
        if name not in values:
            values[name] = _derived(name, batch, sequence)
    return values


def _derived(name: str, batch: Any, sequence: Any) -> Any:
    if name == "b>1":
        return (batch > 1) * 1
    if name.startswith("s<="):
        return minimum(sequence, int(name[3:]))
    if name.startswith("s>"):
        return (sequence > int(name[2:])) * 1
    if name.startswith("s!>"):
        return (sequence <= int(name[3:])) * 1
    quantity = sequence if name.startswith("s/") else batch * sequence
    part = ceiling_division(quantity, int(name[2:]))
    return next_power_of_two(part) if name.startswith("p/") else part


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray)


def next_power_of_two(value: Any) -> Any:
    """The smallest power of two that is at least the value (which is at least 1 and below 2**52)."""
    if _is_array(value):
        return (2 ** np.ceil(np.log2(value))).astype(np.int64)
    return 1 << (int(value) - 1).bit_length()


def minimum(left: Any, right: Any) -> Any:
    """The smaller one, elementwise for arrays."""
    if _is_array(left) or _is_array(right):
        return np.minimum(left, right)
    return min(left, right)


def maximum(left: Any, right: Any) -> Any:
    """The larger one, elementwise for arrays."""
    if _is_array(left) or _is_array(right):
        return np.maximum(left, right)
    return max(left, right)


def choose(condition: Any, yes: Any, no: Any) -> Any:
    """`yes` where the condition holds, else `no`; elementwise for arrays."""
    if not _is_array(condition):
        return yes if condition else no
    return cast("Any", np.where(condition, yes, no))


def ceiling_division(numerator: Any, denominator: int) -> Any:
    """ceil(numerator / denominator) in integers."""
    return -(-numerator // denominator)


def rounded(size: Any, multiple: int) -> Any:
    """The size rounded up to the allocator's multiple."""
    return ceiling_division(size, multiple) * multiple
