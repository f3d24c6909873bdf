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
    assert max(size for _, size, _ in groups) == 16
