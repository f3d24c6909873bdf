"""Polynomials in batch, sequence and rank, with ints and with arrays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.step.sizes import (
    SCORES,
    TOKENS,
    Size,
    above,
    at_most,
    chunks_of,
    constant,
    next_power_of_two,
    rounded,
    token_chunk,
    values_for,
    windowed,
)


def at(size: Size, batch: int, sequence: int, rank: int = 16) -> int:
    return size.at(values_for(size.variables, batch, sequence, rank))


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (TOKENS * 10 + constant(5), 2 * 100 * 10 + 5),
        (SCORES * 3, 2 * 100 * 100 * 3),
        (TOKENS * windowed(64), 2 * 100 * 64),
        (TOKENS * windowed(None), 2 * 100 * 100),
        (token_chunk(8), 25),
        (chunks_of(64), 2),
        (TOKENS * above(99), 200),
        (TOKENS * above(100), 0),
        (TOKENS * at_most(100), 200),
        (Size({("p/3",): 7}), 128 * 7),
    ],
)
def test_sizes_have_the_values_that_a_hand_works_out(size: Size, expected: int) -> None:
    assert at(size, 2, 100) == expected


def test_equal_polynomials_are_equal_and_zero_terms_vanish() -> None:
    assert TOKENS * 2 + TOKENS * 3 == TOKENS * 5
    assert hash(TOKENS * 2 + TOKENS * 3) == hash(TOKENS * 5)
    assert Size({("b",): 0}) == constant(0)
    assert repr(TOKENS * 2) == "2*b*s"


@given(st.integers(1, 64), st.integers(1, 40_000), st.integers(1, 256))
def test_arrays_and_ints_agree(batch: int, sequence: int, rank: int) -> None:
    size = TOKENS * 7 + Size({("r", "s"): 3, ("p/5",): 2}) + TOKENS * windowed(4096) + SCORES * above(4095)
    one = size.at(values_for(size.variables, batch, sequence, rank))
    many = size.at(values_for(size.variables, np.array([batch]), np.array([sequence]), np.array([rank])))
    assert many.tolist() == [one]


@given(st.integers(1, 2**40))
def test_the_next_power_of_two_is_the_smallest_that_is_large_enough(value: int) -> None:
    power = next_power_of_two(value)
    assert power >= value
    assert power // 2 < value
    assert next_power_of_two(np.array([value])).tolist() == [power]


def test_storages_are_rounded_up_to_the_allocators_multiple() -> None:
    assert [rounded(size, 512) for size in (0, 1, 512, 513)] == [0, 512, 512, 1024]
