"""When a median is known well enough."""

import pytest

from planner.calibration.steady import is_steady, median_of

pytestmark = pytest.mark.slow  # the package loads torch


def test_six_samples_hold_the_median_between_their_ends():
    """P(all six on one side) is 2/64, less than 5 %."""
    median = median_of([5.0, 1.0, 3.0, 2.0, 4.0, 6.0])
    assert (median.middle, median.low, median.high) == (3.5, 1.0, 6.0)


def test_nine_samples_leave_one_at_each_end_out():
    """2 (1 + 9) / 512 = 3.9 %; leaving two out would be 18 %."""
    median = median_of([float(number) for number in range(1, 10)])
    assert (median.low, median.high) == (2.0, 8.0)


def test_equal_samples_are_steady_once_there_are_six():
    assert not is_steady([1.0] * 5)
    assert is_steady([1.0] * 6)


def test_samples_far_apart_are_not_steady():
    assert not is_steady([1.0, 1.1] * 5)
