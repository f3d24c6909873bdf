from __future__ import annotations

from app.pace import KEPT_ADDRESSES, Pace


def test_an_address_may_ask_so_often_and_no_oftener() -> None:
    pace = Pace(times=2, seconds=60)
    assert [pace.allows("a", now) for now in (0, 1, 2, 59)] == [True, True, False, False]
    assert pace.allows("b", 2)
    assert [pace.allows("a", now) for now in (60, 60.5, 61)] == [True, False, True]


def test_what_is_remembered_has_an_end() -> None:
    pace = Pace(times=1, seconds=60)
    for number in range(KEPT_ADDRESSES + 1):
        assert pace.allows(str(number), 0)
    assert pace.allows("0", 1)
    assert not pace.allows(str(KEPT_ADDRESSES), 1)
