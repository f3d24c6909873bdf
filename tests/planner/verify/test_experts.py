"""How routed experts are shared out among iterations."""

import pytest

pytestmark = pytest.mark.slow


def test_many_experts_are_traced_in_groups_that_keep_the_order() -> None:
    from planner.verify.experts import expert_groups

    assert list(expert_groups([2, 2, 1], 2)) == [(0, 1, 2), (1, 1, 2), (2, 1, 1)]
    rows = [3] * 40 + [2] * 260
    groups = list(expert_groups(rows, 200))
    assert [row for _, size, row in groups for _ in range(size)] == rows
    assert [start for start, _, _ in groups] == [sum(size for _, size, _ in groups[:i]) for i in range(len(groups))]
    assert 200 in {start for start, _, _ in groups}
    assert max(size for _, size, _ in groups) == 64


def test_the_busiest_expert_has_the_factor_times_the_mean() -> None:
    from planner.verify.experts import balanced_rows, rows_of_experts

    assert rows_of_experts(64, 32, 8, 1.0) == balanced_rows(64, 8)
    assert rows_of_experts(64, 32, 8, 2.0) == [16, 7, 7, 7, 7, 7, 7, 6]
    assert rows_of_experts(64, 32, 8, 4.0)[0] == 32  # all tokens
    assert rows_of_experts(64, 32, 8, 8.0)[0] == 32
    assert sum(rows_of_experts(64, 32, 8, 3.3)) == 64
